"""Our published schemas, judged by a JSON Schema implementation that is not ours (Rust, draft 2020-12)."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from infra.schemas import FOLDER
from tests.golden.make import RECORDS

RECORD_FILES = sorted(RECORDS.glob("*.json"))
SCHEMA_FILES = sorted(FOLDER.glob("*.json"))


def schema_of(name: str) -> Any:
    return json.loads((FOLDER / f"{name}.json").read_text())


def name_of(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("path", SCHEMA_FILES, ids=name_of)
def test_a_published_schema_is_a_schema(path: Path) -> None:
    jsonschema_rs.meta.validate(json.loads(path.read_text()))


@pytest.mark.parametrize("path", RECORD_FILES, ids=name_of)
def test_the_data_of_a_golden_record_fulfils_its_schema(path: Path) -> None:
    data = json.loads(path.read_bytes())["data"]
    jsonschema_rs.validator_for(schema_of(path.stem)).validate(data)


@pytest.mark.parametrize("path", RECORD_FILES, ids=name_of)
def test_a_field_too_many_or_too_few_does_not(path: Path) -> None:
    data = json.loads(path.read_bytes())["data"]
    validator = jsonschema_rs.validator_for(schema_of(path.stem))
    assert not validator.is_valid({**data, "surprise": 1})
    schema = schema_of(path.stem)
    for field in schema["$defs"][schema["$ref"].rpartition("/")[2]]["required"]:
        less = copy.deepcopy(data)
        del less[field]
        assert not validator.is_valid(less), field
