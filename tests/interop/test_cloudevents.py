"""Every golden record is a CloudEvents 1.0 event in structured JSON mode, by the rules of the specification's text.

Attribute names: section "Naming Conventions"; required and optional attributes: "Context Attributes"; integers are
32-bit, so larger numbers must be strings: "Type System"; `data` and the media type: JSON format, sections 2 and 3.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.golden.make import RECORDS

FILES = sorted(RECORDS.glob("*.json"))
NAME = re.compile(r"[a-z0-9]{1,20}\Z")
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z\Z")


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def event(request: pytest.FixtureRequest) -> dict[str, Any]:
    path: Path = request.param
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def test_the_required_attributes_are_there_and_not_empty(event: dict[str, Any]) -> None:
    assert event["specversion"] == "1.0"
    assert all(isinstance(event[name], str) and event[name] for name in ("id", "source", "type"))


def test_attribute_names_are_lower_case_letters_and_digits(event: dict[str, Any]) -> None:
    assert [name for name in event if not NAME.match(name)] == []


def test_attributes_are_strings_so_that_no_number_passes_32_bits(event: dict[str, Any]) -> None:
    assert [name for name, value in event.items() if name != "data" and not isinstance(value, str)] == []


def test_source_is_a_uri_reference_and_time_an_rfc_3339_timestamp(event: dict[str, Any]) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", event["source"])
    assert RFC3339.match(event["time"])
    assert datetime.fromisoformat(event["time"]).tzinfo is not None


def test_data_is_json_as_its_content_type_says(event: dict[str, Any]) -> None:
    assert event["datacontenttype"] == "application/json"
    assert isinstance(event["data"], dict)
    assert "data_base64" not in event
