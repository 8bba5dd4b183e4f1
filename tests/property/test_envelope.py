"""Whatever a fact holds, its record comes back byte for byte, and other parsers read the same."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

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
from events.treasury import Posting, TransactionPosted

texts = st.text(max_size=200)
optional = st.none() | texts
facts = st.builds(NodeLabelled, texts, texts) | st.builds(
    TransactionPosted,
    transaction=texts,
    postings=st.lists(st.builds(Posting, texts, texts, texts), max_size=5).map(tuple),
    memo=texts,
    effective_ms=st.none() | st.integers(-(2**53), 2**53),
    metadata=st.none() | st.dictionaries(texts, texts, max_size=4),
)
times = st.integers(0, 253_402_300_799_999_999)
drafts = st.builds(
    Draft,
    id=texts,
    source=texts,
    type=texts,
    subject=texts,
    data=facts.map(encode_data),
    actor=optional,
    commandid=optional,
    causationid=optional,
    correlationid=optional,
)


@given(drafts, st.integers(1, 2**63), times, st.integers(1, 2**63))
def test_a_record_encodes_to_the_bytes_it_was_decoded_from(
    draft: Draft, version: int, time: int, position: int
) -> None:
    raw = seal_record(open_record(draft), version, time_text(time), position)
    envelope = decode_envelope(raw)
    assert encode_envelope(envelope) == raw
    assert bytes(envelope.data) == bytes(draft.data)
    for name in ("id", "source", "type", "subject", "actor", "commandid", "causationid", "correlationid"):
        assert getattr(envelope, name) == getattr(draft, name)
    assert (int(envelope.streamversion), int(envelope.position)) == (version, position)


@given(drafts, times)
def test_another_parser_finds_the_same_attributes_in_the_same_order(draft: Draft, time: int) -> None:
    parsed = json.loads(seal_record(open_record(draft), 1, time_text(time), 1))
    names = ["specversion", "id", "source", "type", "subject", "datacontenttype"]
    names += [
        name for name in ("actor", "commandid", "causationid", "correlationid") if getattr(draft, name) is not None
    ]
    assert list(parsed) == [*names, "data", "streamversion", "time", "position"]
    assert parsed["subject"] == draft.subject
    assert parsed["data"] == json.loads(bytes(draft.data))


@given(times)
def test_recorded_time_reads_back_to_the_microsecond(time: int) -> None:
    assert time_us(time_text(time)) == time


@given(times, times)
def test_texts_of_times_sort_like_the_times(one: int, two: int) -> None:
    assert (time_text(one) < time_text(two)) == (one < two)


@given(st.binary(min_size=32, max_size=32), st.integers(0, 10_000), st.integers(0, 10_000))
def test_facts_of_one_outcome_share_no_id(key: bytes, one: int, two: int) -> None:
    assert (fact_id(key, one) == fact_id(key, two)) == (one == two)
