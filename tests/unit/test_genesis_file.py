"""Reading `community.yaml`: strict, every problem at once, each with its path."""

from __future__ import annotations

import json
from typing import Any

import jsonschema_rs
import pytest

from events.genesis import GenesisRefused
from infra.genesis_file import demo_yaml, read_community
from infra.genesis_schema import PATH, schema_text
from infra.strict_yaml import parse
from tests.registry_world import key


def refused(raw: bytes, derive: Any = key) -> list[str]:
    with pytest.raises(GenesisRefused) as caught:
        read_community(raw, derive)
    return list(caught.value.problems)


def edited(old: str, new: str) -> bytes:
    text = demo_yaml().decode()
    assert text.count(old) >= 1, old
    return text.replace(old, new, 1).encode()


def test_a_duplicate_key_is_refused_with_its_path() -> None:
    raw = edited("  late_reserve_days: 35", "  late_reserve_days: 35\n  late_reserve_days: 36")
    assert any(problem.startswith("metering.late_reserve_days: stands twice") for problem in refused(raw))


def test_an_unknown_field_is_refused_with_its_path_and_the_nearest_name() -> None:
    assert refused(edited("late_reserve_days", "late_reserve_day")) == [
        "metering.late_reserve_day: unknown field; did you mean 'late_reserve_days'?"
    ]


def test_a_float_is_refused_wherever_it_stands() -> None:
    assert refused(edited('"1000000000"', "1000.5")) == [
        "currency.emission_per_epoch: 1000.5 is a float; write decimal numbers in quotes",
    ]


def test_an_amount_without_quotes_is_refused() -> None:
    assert refused(edited('cap: "1000000000000000"', "cap: 1000000000000000")) == [
        "currency.cap: expected text, found 1000000000000000; write it in quotes",
    ]


def test_every_problem_is_listed_at_once() -> None:
    raw = (
        edited("origin:", "orgin:").replace(b"kind: human", b"kind: dwarf", 1).replace(b"seconds: 3600", b"seconds: x")
    )
    found = "\n".join(refused(raw))
    assert "orgin: unknown field" in found
    assert "origin: missing" in found
    assert "members[0].kind: 'dwarf' is not one of" in found
    assert "epochs.seconds: expected a whole number" in found


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"a: &x 1\nb: *x\n", "anchors and aliases"),
        (b"- 1\n", "expected fields with names"),
        (b"", "expected fields with names"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"a: !!python/object:os.system x", "tag"),
        (b"a: [", "not YAML"),
        (b"a: 1\n---\nb: 2\n", "not YAML"),
        (b"name: a\x00b", "not YAML"),
        (b"[" * 50_000, "nested too deeply"),
        (b"x" * 1_048_577, "bytes"),
        (b"name: 010", "not a plain whole number"),
    ],
)
def test_bytes_that_are_no_strict_document_are_refused(raw: bytes, says: str) -> None:
    assert says in "\n".join(refused(raw))


def test_words_that_yaml_reads_as_something_else_stay_text() -> None:
    document = read_community(
        edited("name: The demo commons", "name: no").replace(b'"2025-01-01T00:00:00Z"', b"2025-01-01T00:00:00Z"), key
    )
    assert document.name == "no"
    assert document.epochs.zero == "2025-01-01T00:00:00Z"


def test_a_derived_key_needs_something_to_derive_from() -> None:
    assert refused(demo_yaml(), None)[0].startswith("members[0].key: no key to derive from")


def test_an_unknown_shipped_table_is_refused() -> None:
    assert "no table 'infer-9' ships" in refused(edited("shipped: infer-1", "shipped: infer-9"))[0]


def test_the_schema_beside_the_example_is_up_to_date() -> None:
    assert PATH.read_text(encoding="utf-8") == schema_text(), "run: python -m infra.genesis_schema"


def test_the_shipped_example_as_written_fits_the_schema_and_a_misspelt_one_does_not() -> None:
    validator = jsonschema_rs.Draft202012Validator(json.loads(PATH.read_text(encoding="utf-8")))
    problems: list[str] = []
    validator.validate(parse(demo_yaml(), problems))
    assert problems == []
    assert not validator.is_valid(parse(edited("late_reserve_days", "late_reserve_day"), problems))
    assert not validator.is_valid(parse(edited("shipped: infer-1", "shipped: 1"), problems))
