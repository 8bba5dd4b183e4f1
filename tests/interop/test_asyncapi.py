"""The AsyncAPI document, judged by AsyncAPI's own JSON Schema; and what the relay sends, judged by the document."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from eventsourcing.persistence import Notification

from events.envelope import decode_envelope
from events.facts import FACTS_BY_SERVICE
from infra.asyncapi import JUDGE, MARK, PATH, judge, main
from infra.kafka.records import Headers, fact_headers, watermark
from tests.golden.make import RECORDS

RECORD_FILES = sorted(RECORDS.glob("*.json"))
DOCUMENT: dict[str, Any] = json.loads(PATH.read_text())
JUDGE_SHA256 = "abe96881dbfaad495ccbb6bd8d3fb43ca18a13b9d7564849ccb66f39d5e5b20f"


def name_of(path: Path) -> str:
    return path.stem


def validator(part: str, message: str) -> Any:
    where = f"#/components/messages/{message}/{part}"
    dialect = "http://json-schema.org/draft-07/schema#"
    return jsonschema_rs.validator_for({"$schema": dialect, "$ref": where, "components": DOCUMENT["components"]})


def as_text(headers: Headers) -> dict[str, str]:
    return {name: value.decode() for name, value in headers}


def test_the_document_in_the_tree_is_what_the_code_says_and_a_valid_one() -> None:
    assert main(["--check"]) == 0


def test_the_judge_is_the_published_one_byte_for_byte() -> None:
    """`schemas/3.0.0-without-$id.json` of the npm package @asyncapi/specs 6.11.1."""
    assert hashlib.sha256(gzip.decompress(JUDGE.read_bytes())).hexdigest() == JUDGE_SHA256


@pytest.mark.parametrize("path", [("channels", "registry", "address"), ("info", "title"), ("asyncapi",)])
def test_the_judge_refuses_a_document_with_a_number_where_a_text_belongs(path: tuple[str, ...]) -> None:
    broken = copy.deepcopy(DOCUMENT)
    place = broken
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = 7
    assert judge(broken)


def test_every_fact_type_is_a_message_of_its_services_channel_and_of_no_other() -> None:
    for service, facts in FACTS_BY_SERVICE.items():
        assert set(DOCUMENT["channels"][service]["messages"]) == {fact.TYPE for fact in facts} | {MARK}
        assert DOCUMENT["channels"][service]["address"] == f"{service}.events"


@pytest.mark.parametrize("path", RECORD_FILES, ids=name_of)
def test_a_golden_record_and_the_headers_of_the_relay_fulfil_their_message(path: Path) -> None:
    raw = path.read_bytes()
    envelope = decode_envelope(raw)
    validator("payload", path.stem).validate(json.loads(raw))
    stored = Notification(envelope.subject, int(envelope.streamversion), envelope.type, raw, int(envelope.position))
    validator("headers", path.stem).validate(as_text(fact_headers(stored, 0)))


@pytest.mark.parametrize("path", RECORD_FILES, ids=name_of)
def test_a_field_too_many_or_another_service_does_not(path: Path) -> None:
    record = json.loads(path.read_bytes())
    payload = validator("payload", path.stem)
    assert not payload.is_valid({**record, "surprise": "1"})
    assert not payload.is_valid({**record, "data": {**record["data"], "surprise": 1}})
    assert not payload.is_valid({**record, "source": "golden.commons.example/elsewhere"})
    assert not payload.is_valid({name: value for name, value in record.items() if name != "position"})


def test_a_watermark_fulfils_its_message_and_a_fact_does_not() -> None:
    value, headers = watermark(17, bytes(32), 0)
    validator("payload", MARK).validate(json.loads(value))
    validator("headers", MARK).validate(as_text(headers))
    assert not validator("payload", MARK).is_valid(json.loads(RECORD_FILES[0].read_bytes()))
    assert not validator("headers", MARK).is_valid({"content-type": "application/json"})
