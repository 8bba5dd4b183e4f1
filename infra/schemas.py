"""The published shape of every fact: JSON Schema files in `events/schemas`, generated, kept in git, never broken.

A type is **published** once its name stands in `events/schemas/published.txt`. From then on its records lie in logs
that nobody can edit, so its schema may not change in a way that old bytes do not survive: a field removed, renamed,
added, moved or of another type is an error, and so is a value that is no longer allowed. What may change is the
prose, a default, and a list of allowed words that grows. Everything else is a new version with an upcast.

`python -m infra.schemas` writes what is new or unpublished, `--check` only compares, `--publish` freezes all types.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

import events
from events.facts import catalog
from infra.schema_compatibility import breaks

FOLDER: Final = Path(events.__file__).parent / "schemas"
PUBLISHED: Final = "published.txt"
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Findings:
    """What a comparison of the folder with the code came to; empty lists are good news."""

    types: int
    stale: Sequence[str]
    breaking: Sequence[str]

    @property
    def clean(self) -> bool:
        """Tell whether nothing is to be done."""
        return not self.stale and not self.breaking


def generate() -> dict[str, Schema]:
    """Return the schema of every fact type, retired ones included, by published name."""
    return {name: _schema(name, kind) for name, kind in sorted(catalog().facts.items())}


def text(schema: Schema) -> str:
    """Return the bytes of a schema file: two spaces, fields in the order of the record, one line feed at the end."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def published(folder: Path = FOLDER) -> frozenset[str]:
    """Return the names that are frozen."""
    listed = folder / PUBLISHED
    lines = listed.read_text(encoding="utf-8").splitlines() if listed.exists() else []
    return frozenset(line for line in lines if line and not line.startswith("#"))


def check(folder: Path = FOLDER) -> Findings:
    """Compare the folder and the committed versions with what the code says now; changes nothing."""
    now = generate()
    files = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.json"))}
    stale = [f"{name}: written by hand or out of date" for name in now if files.get(name) != text(now[name])]
    stale += [f"{name}: no such type in the catalog" for name in files if name not in now]
    return Findings(len(now), sorted(stale), sorted(_breaking(now, folder)))


def write(folder: Path = FOLDER) -> Findings:
    """Write every schema that breaks nothing published; return what was written (`stale`) and what was refused."""
    now = generate()
    refused = list(_breaking(now, folder))
    broken = {line.partition(":")[0] for line in refused}
    folder.mkdir(exist_ok=True)
    written = []
    for name, schema in now.items():
        path = folder / f"{name}.json"
        if name not in broken and (not path.exists() or path.read_text(encoding="utf-8") != text(schema)):
            path.write_text(text(schema), encoding="utf-8")
            written.append(f"{name}: written")
    for path in sorted(folder.glob("*.json")):
        if path.stem not in now and path.stem not in broken:
            path.unlink()
            written.append(f"{path.stem}: removed")
    return Findings(len(now), written, refused)


def publish(folder: Path = FOLDER) -> Sequence[str]:
    """Freeze every type of the catalog; return those that were not frozen before. Needs an up-to-date folder."""
    before = published(folder)
    after = sorted(before | set(generate()))
    head = "# Types whose records lie in logs. A line is never taken away; see infra/schemas.py.\n"
    (folder / PUBLISHED).write_text(head + "".join(f"{name}\n" for name in after), encoding="utf-8")
    return [name for name in after if name not in before]


def _schema(name: str, kind: type[msgspec.Struct]) -> Schema:
    made = msgspec.json.schema(kind)
    return {"$schema": DIALECT, "$id": f"urn:compute-commons:{name}", **_unwrapped(made)}


def _unwrapped(value: Any) -> Any:
    """Return the schema with its descriptions as single lines."""
    if isinstance(value, dict):
        return {
            key: " ".join(item.split()) if key == "description" and isinstance(item, str) else _unwrapped(item)
            for key, item in value.items()
        }
    return [_unwrapped(item) for item in value] if isinstance(value, list) else value


def _breaking(now: Mapping[str, Schema], folder: Path) -> Iterator[str]:
    for name in sorted(published(folder) | _committed_names(folder)):
        earlier = [found for found in (_in_tree(folder, name), _committed(folder, name)) if found is not None]
        if name not in now:
            yield f"{name}: a published type may not leave the catalog: retire it with an upcast"
        else:
            lines = {line for old in earlier for line in breaks(old, now[name])}
            yield from (f"{name}: {line}" for line in sorted(lines))


def _in_tree(folder: Path, name: str) -> Schema | None:
    path = folder / f"{name}.json"
    return _parsed(path.read_bytes()) if path.exists() else None


def _committed(folder: Path, name: str) -> Schema | None:
    return _parsed(_git_show(folder, f"{name}.json"))


def _committed_names(folder: Path) -> frozenset[str]:
    """Return the names the last commit calls published, so that taking a line away frees nothing."""
    raw = _git_show(folder, PUBLISHED) or b""
    return frozenset(line for line in raw.decode().splitlines() if line and not line.startswith("#"))


def _git_show(folder: Path, name: str) -> bytes | None:
    """Return a file of the folder as of the last commit; None outside a repository or when it is new."""
    command = ["git", "-C", str(folder), "show", f"HEAD:./{name}"]
    # A git hook sets GIT_DIR and the like, which would point this at another place than the folder.
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        found = subprocess.run(command, env=environ, capture_output=True, check=False)  # noqa: S603 - fixed words
    except OSError:
        return None
    return found.stdout if found.returncode == 0 else None


def _parsed(raw: bytes | None) -> Schema | None:
    found: Schema | None = json.loads(raw) if raw else None
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status (1: something is stale or broken)."""
    parser = argparse.ArgumentParser(prog="python -m infra.schemas", description="JSON Schema of every fact.")
    parser.add_argument("--check", action="store_true", help="compare only")
    parser.add_argument("--publish", action="store_true", help="freeze every type")
    chosen = parser.parse_args(arguments)
    findings = check() if chosen.check else write()
    for line in findings.breaking:
        sys.stderr.write(f"breaks a published type: {line}\n")
    for line in findings.stale:
        sys.stderr.write(f"{line}\n") if chosen.check else sys.stdout.write(f"{line}\n")
    if chosen.check and findings.stale:
        sys.stderr.write("run 'make schemas' and commit what it writes\n")
    if findings.breaking or (chosen.check and findings.stale):
        return 1
    frozen = publish() if chosen.publish else ()
    sys.stdout.write(f"{findings.types} schemas, {len(published())} published ({len(frozen)} of them now)\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
