"""Schemas: what may change in a published type, and what is an error."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra import schemas
from infra.schema_compatibility import breaks

NAME = "registry.node-registered.v1"


def schema() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(schemas.text(schemas.generate()[NAME]))
    return found


def fields(of: dict[str, Any], struct: str = "NodeRegistered") -> dict[str, Any]:
    found: dict[str, Any] = of["$defs"][struct]["properties"]
    return found


def required(of: dict[str, Any]) -> list[str]:
    found: list[str] = of["$defs"]["NodeRegistered"]["required"]
    return found


def renamed(of: dict[str, Any]) -> None:
    found = fields(of)
    items = [("area" if name == "zone" else name, kind) for name, kind in found.items()]
    found.clear()
    found.update(items)


def reordered(of: dict[str, Any]) -> None:
    found = fields(of)
    found["node"] = found.pop("node")


BREAKING: list[tuple[str, Callable[[dict[str, Any]], object], str]] = [
    ("removed", lambda new: fields(new).pop("zone"), "data.zone: removed or renamed"),
    ("renamed", renamed, "data.area: added"),
    ("added, optional", lambda new: fields(new).update(hue={"type": "string", "default": ""}), "data.hue: added (opt"),
    (
        "added, required",
        lambda new: (fields(new).update(hue={"type": "string"}), required(new).append("hue")),
        "data.hue: added (required)",
    ),
    ("of another type", lambda new: fields(new).update(zone={"type": "integer"}), "data.zone: another type"),
    ("of another type inside", lambda new: fields(new, "Device").update(memory_mib={"type": "string"}), "memory_mib"),
    ("no longer empty", lambda new: fields(new).update(pue_milli={"type": "integer"}), "data.pue_milli"),
    ("required now", lambda new: required(new).append("label"), "data.label: was optional, is required"),
    ("in another order", reordered, "data: fields stand in another order"),
    ("with a word less", lambda new: fields(new, "Device")["kind"]["enum"].remove("gpu"), "no longer allows ['gpu']"),
    ("a list of others", lambda new: fields(new)["devices"].update(items={"type": "string"}), "data.devices[]"),
]


@pytest.mark.parametrize(("change", "line"), [row[1:] for row in BREAKING], ids=[row[0] for row in BREAKING])
def test_a_field_of_a_published_type_may_not_be(change: Callable[[dict[str, Any]], object], line: str) -> None:
    new = schema()
    change(new)
    assert any(line in found for found in breaks(schema(), new)), list(breaks(schema(), new))


ALLOWED: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("nothing", lambda _new: None),
    ("the prose", lambda new: new["$defs"]["NodeRegistered"].update(description="other words")),
    ("a default", lambda new: fields(new)["label"].update(default="none")),
    ("a word more", lambda new: fields(new, "Device")["kind"]["enum"].append("quantum")),
]


@pytest.mark.parametrize("change", [row[1] for row in ALLOWED], ids=[row[0] for row in ALLOWED])
def test_what_changes_no_recorded_byte_may_change(change: Callable[[dict[str, Any]], object]) -> None:
    new = schema()
    change(new)
    assert list(breaks(schema(), new)) == []


def test_the_schemas_in_the_repository_are_the_ones_of_the_code() -> None:
    findings = schemas.check()
    assert findings.stale == []
    assert findings.breaking == []


def test_writing_makes_a_folder_that_the_check_accepts(tmp_path: Path) -> None:
    assert len(schemas.check(tmp_path).stale) == schemas.write(tmp_path).types
    assert schemas.check(tmp_path).clean


def test_a_stale_file_and_a_file_of_no_type_are_found(tmp_path: Path) -> None:
    schemas.write(tmp_path)
    (tmp_path / f"{NAME}.json").write_text("{}\n")
    (tmp_path / "lamps.lamp-lit.v1.json").write_text("{}\n")
    stale = "\n".join(schemas.check(tmp_path).stale)
    assert NAME in stale
    assert "lamps.lamp-lit.v1: no such type" in stale


def test_an_unpublished_type_may_change_and_a_published_one_is_not_written_again(tmp_path: Path) -> None:
    schemas.write(tmp_path)
    old = schema()
    fields(old).pop("zone")
    path = tmp_path / f"{NAME}.json"
    path.write_text(schemas.text(old))
    assert schemas.check(tmp_path).breaking == []
    assert NAME in schemas.publish(tmp_path)
    path.write_text(schemas.text(old))
    assert schemas.check(tmp_path).breaking == [f"{NAME}: data.zone: added (required): make a new version"]
    assert f"{NAME}: written" not in schemas.write(tmp_path).stale
    assert path.read_text() == schemas.text(old)


def test_editing_the_file_or_taking_the_name_away_frees_no_committed_type(tmp_path: Path) -> None:
    schemas.write(tmp_path)
    schemas.publish(tmp_path)
    old = schema()
    fields(old).pop("zone")
    path = tmp_path / f"{NAME}.json"
    path.write_text(schemas.text(old))
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "--no-verify", "-m", "published"]):
        subprocess.run([*git, *words], env=environ, check=True)
    path.write_text(schemas.text(schema()))
    (tmp_path / schemas.PUBLISHED).unlink()
    assert schemas.check(tmp_path).stale == []
    assert schemas.check(tmp_path).breaking == [f"{NAME}: data.zone: added (required): make a new version"]


def test_a_published_type_that_left_the_catalog_is_an_error(tmp_path: Path) -> None:
    schemas.write(tmp_path)
    (tmp_path / schemas.PUBLISHED).write_text("lamps.lamp-lit.v1\n")
    assert any("may not leave the catalog" in line for line in schemas.check(tmp_path).breaking)
