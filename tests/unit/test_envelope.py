"""One byte string per fact: its order, what is left out, what makes its id, and who is refused."""

from __future__ import annotations

import hashlib
from uuid import RFC_4122, UUID

import msgspec
import pytest

from events.envelope import (
    Draft,
    decode_envelope,
    encode_data,
    encode_envelope,
    fact_id,
    open_record,
    seal_record,
    time_text,
    time_us,
)
from events.registry import NodeLabelled

NODE = "node/7c1e0000000000000000000000000000"
IDENTITY = "018f3b1c-0000-8000-8000-000000000001"


def draft(**optional: str) -> Draft:
    data = encode_data(NodeLabelled(NODE, "attic"))
    return Draft(IDENTITY, "commons.example/demo/registry", NodeLabelled.TYPE, NODE, data, **optional)


def sealed(**optional: str) -> bytes:
    return seal_record(open_record(draft(**optional)), 17, "2026-11-20T12:00:00.000000Z", 123_456)


def test_a_record_has_its_attributes_in_the_order_of_the_design() -> None:
    raw = sealed(actor="member/a", commandid="c-1", causationid="f-1", correlationid="f-0")
    assert raw == (
        b'{"specversion":"1.0","id":"018f3b1c-0000-8000-8000-000000000001","source":"commons.example/demo/registry",'
        b'"type":"registry.node-labelled.v1","subject":"node/7c1e0000000000000000000000000000",'
        b'"datacontenttype":"application/json","actor":"member/a","commandid":"c-1","causationid":"f-1",'
        b'"correlationid":"f-0","data":{"node":"node/7c1e0000000000000000000000000000","label":"attic"},'
        b'"streamversion":"17","time":"2026-11-20T12:00:00.000000Z","position":"123456"}'
    )


def test_an_absent_attribute_is_left_out_and_not_null() -> None:
    raw = sealed(commandid="c-1")
    assert b'"datacontenttype":"application/json","commandid":"c-1","data":{' in raw
    assert b"null" not in raw
    assert decode_envelope(raw).actor is None


def test_a_record_decodes_to_what_it_was_made_of_and_encodes_to_the_same_bytes() -> None:
    raw = sealed(actor="member/a", commandid="c-1")
    envelope = decode_envelope(raw)
    assert (envelope.service, envelope.type, envelope.subject) == ("registry", NodeLabelled.TYPE, NODE)
    assert (envelope.streamversion, envelope.position) == ("17", "123456")
    assert bytes(envelope.data) == b'{"node":"%s","label":"attic"}' % NODE.encode()
    assert encode_envelope(envelope) == raw


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (b'"specversion":"1.0","id"', b'"specversion": "1.0","id"'),
        (b'"position":"123456"', b'"position":"0123456"'),
        (b'"commandid":"c-1"', b'"commandid":"\\u0063-1"'),
        (b'"streamversion":"17",', b'"streamversion":"+17",'),
    ],
    ids=["a space", "a leading zero", "an escape", "a sign"],
)
def test_bytes_another_encoder_wrote_do_not_encode_to_themselves(ours: bytes, theirs: bytes) -> None:
    foreign = sealed(commandid="c-1").replace(ours, theirs)
    assert foreign != sealed(commandid="c-1")
    assert encode_envelope(decode_envelope(foreign)) != foreign


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (b'"specversion":"1.0"', b'"specversion":"0.3"'),
        (b'"datacontenttype":"application/json"', b'"datacontenttype":"text/xml"'),
        (b'"position":"123456"', b'"position":123456'),
        (b'"position":"123456"}', b'"position":"123456","traceparent":"00-1-2-00"}'),
        (b'"subject":"%s",' % NODE.encode(), b""),
    ],
    ids=["another version", "another content type", "a number", "an unknown attribute", "no subject"],
)
def test_an_envelope_that_is_not_ours_is_refused(ours: bytes, theirs: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_envelope(sealed().replace(ours, theirs))


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_record_that_was_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_envelope(sealed()[:-cut])


def test_a_fact_id_is_a_version_8_uuid_of_outcome_key_and_index() -> None:
    key = hashlib.sha256(b"an outcome").digest()
    found = UUID(fact_id(key, 0))
    assert (found.version, found.variant) == (8, RFC_4122)
    wanted = bytearray(hashlib.sha256(key + bytes(8)).digest()[:16])
    wanted[6] = wanted[6] & 0x0F | 0x80
    wanted[8] = wanted[8] & 0x3F | 0x80
    assert found.bytes == bytes(wanted)


def test_a_fact_id_is_the_same_again_and_another_for_another_index_or_outcome() -> None:
    key, other = hashlib.sha256(b"one").digest(), hashlib.sha256(b"two").digest()
    assert fact_id(key, 0) == fact_id(key, 0)
    assert len({fact_id(one, index) for one in (key, other) for index in range(100)}) == 200


@pytest.mark.parametrize(
    ("micros", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_763_640_000_000_001, "2025-11-20T12:00:00.000001Z"),
        (4_102_444_799_999_999, "2099-12-31T23:59:59.999999Z"),
    ],
)
def test_recorded_time_is_written_in_utc_with_six_decimals(micros: int, text: str) -> None:
    assert time_text(micros) == text
    assert time_us(text) == micros


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01T00:00:00.000000Z", ""])
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)isoformat|month"):
        time_us(text)
