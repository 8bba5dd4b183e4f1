"""Bytes that were written once must be read for ever: one golden record per fact version."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from events.envelope import MAX_RECORD_BYTES, decode_envelope, encode_data, encode_envelope
from events.facts import FACTS_BY_SERVICE, catalog
from services.registry.genesis import check
from tests.golden.make import RECORDS, make, record
from tests.golden.samples import COMMUNITY, samples

FILES = sorted(RECORDS.glob("*.json"))


def name_of(path: Path) -> str:
    return path.stem


def test_every_fact_type_has_exactly_one_golden_record() -> None:
    assert sorted(path.stem for path in FILES) == sorted(catalog().facts)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_golden_record_decodes_and_encodes_to_the_same_bytes(path: Path) -> None:
    raw = path.read_bytes()
    assert encode_envelope(decode_envelope(raw)) == raw
    assert len(raw) <= MAX_RECORD_BYTES


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_golden_record_is_the_type_its_file_is_named_for_and_lies_with_its_owner(path: Path) -> None:
    raw = path.read_bytes()
    envelope = decode_envelope(raw)
    assert envelope.type == path.stem
    assert type(catalog().decode(raw).fact) in FACTS_BY_SERVICE[envelope.service]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_data_of_a_current_type_encodes_to_the_same_bytes(path: Path) -> None:
    envelope = decode_envelope(path.read_bytes())
    known = catalog()
    if envelope.type not in known.upcasts:
        assert bytes(encode_data(known.decode_data(envelope.type, envelope.data))) == bytes(envelope.data)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_another_json_parser_reads_the_same_fields(path: Path) -> None:
    raw = path.read_bytes()
    parsed = json.loads(raw)
    assert json.dumps(parsed, separators=(",", ":"), ensure_ascii=False).encode() == raw


def test_the_sample_community_is_one_that_could_be_founded() -> None:
    assert list(check(COMMUNITY)) == []


def test_the_maker_adds_what_is_missing_and_rewrites_nothing(tmp_path: Path) -> None:
    first = make(folder=tmp_path)
    assert sorted(first) == sorted(samples())
    touched = tmp_path / f"{first[0]}.json"
    touched.write_bytes(b"kept")
    assert make(folder=tmp_path) == []
    assert touched.read_bytes() == b"kept"
    assert make([first[0]], tmp_path) == [first[0]]
    assert touched.read_bytes() == record(*samples()[first[0]])


def test_the_bytes_of_one_record_are_the_ones_the_design_shows() -> None:
    """If this digest changes, every log ever written stops verifying."""
    raw = (RECORDS / "registry.node-activated.v1.json").read_bytes()
    assert raw.startswith(b'{"specversion":"1.0","id":"')
    assert raw.endswith(b'"streamversion":"17","time":"2026-11-20T12:00:00.000000Z","position":"123456"}')
    assert hashlib.sha256(raw).hexdigest() == "fcf6400b7eaf00d56ae37cdb37f41f6fd33cb1418d3deec50763e364f9b30a76"
