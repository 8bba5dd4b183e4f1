"""Commands over HTTP: acceptance, repetition, and every body that is not what it must be."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import msgspec
import pytest

from events.envelope import decode_envelope
from services.kernel.acks import request_hash
from tests.edge_calls import COUNT, ack_of, send_raw, slug
from tests.toy_edge import (
    PUBLIC_URL,
    ToyEdge,
    toy_edge,
)


@pytest.fixture
async def edge() -> AsyncIterator[ToyEdge]:
    async with toy_edge() as made:
        yield made


async def test_a_signed_command_is_accepted_recorded_and_acknowledged(edge: ToyEdge) -> None:
    body = msgspec.json.encode({"name": "a", "by": 3})
    async with edge.client() as client:
        response = await client.send("POST", COUNT, body=body)
    assert response.status_code == 200
    assert response.json() == {"position": "1", "first": "1", "total": 3}
    assert response.headers["commons-position"] == "toy=1"
    assert "idempotency-hit" not in response.headers
    (record,) = await edge.appender.store.read(0)
    assert decode_envelope(record.state).actor == edge.keys.member_id
    ack = ack_of(edge, response)
    assert (ack.service, ack.position, ack.refusal, ack.actor) == ("toy", "1", None, edge.keys.member_id)
    assert ack.record_hash == hashlib.sha256(record.state).hexdigest()
    assert ack.request_sha256 == request_hash("POST", PUBLIC_URL + COUNT, body)
    assert ack.time == decode_envelope(record.state).time


async def test_a_command_that_needs_no_fact_is_accepted_at_position_zero(edge: ToyEdge) -> None:
    async with edge.client() as client:
        response = await client.command(COUNT, {"name": "a", "by": 0})
    assert response.json() == {"position": "0", "first": "0", "total": 0}


async def test_a_refusal_is_a_problem_with_its_fields_and_is_acknowledged(edge: ToyEdge) -> None:
    async with edge.client() as client:
        response = await client.command(COUNT, {"name": "a", "by": 2_000_000})
    assert response.status_code == 409
    assert slug(response) == "ceiling-reached"
    assert response.json()["ceiling"] == 1_000_000
    ack = ack_of(edge, response)
    assert (ack.refusal, ack.position, ack.actor) == ("ceiling-reached", None, edge.keys.member_id)


async def test_the_same_key_again_gives_the_first_answer_and_says_so(edge: ToyEdge) -> None:
    async with edge.client() as client:
        first = await client.command(COUNT, {"name": "a"}, idempotency_key="k1")
        again = await client.command(COUNT, {"by": 1, "name": "a", "padding": ""}, idempotency_key="k1")
        other = await client.command(COUNT, {"name": "a", "by": 2}, idempotency_key="k1")
        same = await client.command(COUNT, {"name": "a"}, idempotency_key="k1")
    assert same.json() == first.json() == {"position": "1", "first": "1", "total": 1}
    assert same.headers["idempotency-hit"] == "true"
    assert ack_of(edge, same).record_hash == ack_of(edge, first).record_hash
    assert (other.status_code, slug(other)) == (409, "other-inputs")
    assert (again.status_code, slug(again)) == (409, "other-inputs"), "fields that were set explicitly are inputs"
    assert edge.appender.position == 1


async def test_the_same_key_on_another_route_is_other_inputs(edge: ToyEdge) -> None:
    async with edge.client() as client:
        await client.command(COUNT, {"name": "a"}, idempotency_key="k1")
        response = await client.command("/v1/toy/free", {"name": "a"}, idempotency_key="k1")
    assert slug(response) == "other-inputs"


async def test_another_member_may_use_the_same_key(edge: ToyEdge) -> None:
    async with edge.client() as one, edge.client(edge.keys.steward) as two:
        first = await one.command(COUNT, {"name": "a"}, idempotency_key="k1")
        second = await two.command(COUNT, {"name": "a"}, idempotency_key="k1")
    assert (first.json()["total"], second.json()["total"]) == (1, 2)


async def test_without_a_key_every_request_is_its_own_command(edge: ToyEdge) -> None:
    body = msgspec.json.encode({"name": "a"})
    assert (await send_raw(edge, body)).json()["total"] == 1
    assert (await send_raw(edge, body)).json()["total"] == 2


@pytest.mark.parametrize("key", ["", "x" * 129, "a\tb"])
async def test_an_impossible_idempotency_key_is_refused(edge: ToyEdge, key: str) -> None:
    response = await send_raw(edge, b'{"name":"a"}', headers={"idempotency-key": key})
    assert (response.status_code, slug(response)) == (422, "invalid-field")


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"{", 400, "not JSON"),
        (b"", 400, "not JSON"),
        (b'{"name":"a"} x', 400, "not JSON"),
        (b'{"name":"a","name":"b"}', 400, "stands twice"),
        (b'{"name":"a\x00"}', 400, "not JSON"),
        (b'{"name":"a\\u0000"}', 400, "U+0000"),
        (b'{"name":"a\\ud800"}', 400, "U+D800"),
        (b'{"name":"\xff"}', 400, "UTF-8"),
        (b'\xef\xbb\xbf{"name":"a"}', 400, "byte order mark"),
        (b'{"name":"a","by":1.5}', 400, "no integer"),
        (b'{"name":"a","by":1e3}', 400, "no integer"),
        (b'{"name":"a","by":NaN}', 400, "not JSON"),
        (b'{"name":"a","by":9007199254740992}', 400, "2^53"),
        (b'{"name":' + b"[" * 40 + b"]" * 40 + b"}", 400, "levels"),
        (b'{"name":"a","more":1}', 422, "/more"),
        (b'{"name":"a","by":"1"}', 422, "/by"),
        (b'{"name":"a","by":-1}', 422, "/by"),
        (b'{"name":"a","by":true}', 422, "/by"),
        (b'{"by":1}', 422, "/name"),
        (b'["a"]', 422, "/"),
        (b"null", 422, "/"),
    ],
)
async def test_a_body_that_is_not_what_it_must_be_is_refused(
    edge: ToyEdge, body: bytes, status: int, told: str
) -> None:
    response = await send_raw(edge, body)
    assert response.status_code == status, response.text
    assert slug(response) == {400: "malformed-request", 422: "invalid-field"}[status]
    assert told in response.json()["detail"]
    assert ack_of(edge, response).refusal == slug(response)
    assert edge.appender.position == 0


async def test_a_body_over_the_limit_is_refused_before_it_is_read(edge: ToyEdge) -> None:
    response = await send_raw(edge, b'{"name":"a","padding":"' + b"x" * 70_000 + b'"}')
    assert (response.status_code, slug(response)) == (413, "too-large")


async def test_a_body_over_the_limit_without_a_stated_length_is_refused(edge: ToyEdge) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 1_000

    async with edge.plain() as client:
        response = await client.post(COUNT, content=endless(), headers={"content-type": "application/json"})
    assert (response.status_code, slug(response)) == (413, "too-large")


@pytest.mark.parametrize("kind", ["text/plain", "application/json; charset=latin-1", "application/x-ndjson", ""])
async def test_another_media_type_is_refused(edge: ToyEdge, kind: str) -> None:
    response = await send_raw(edge, b'{"name":"a"}', headers={"content-type": kind})
    assert (response.status_code, slug(response)) == (415, "unsupported-media-type")


async def test_a_content_encoding_is_refused(edge: ToyEdge) -> None:
    response = await send_raw(edge, b'{"name":"a"}', headers={"content-encoding": "gzip"})
    assert (response.status_code, slug(response)) == (415, "unsupported-media-type")


async def test_a_fact_too_large_for_a_record_is_refused(edge: ToyEdge) -> None:
    response = await send_raw(edge, b'{"name":"a","padding":"' + "é".encode() * 32_700 + b'"}')
    assert (response.status_code, slug(response)) == (413, "record-too-large")


async def test_the_first_page_tells_where_to_go_on() -> None:
    async with toy_edge() as edge, edge.plain() as client:
        answer = await client.get("/")
    assert answer.status_code == 200
    assert answer.json()["openapi"] == "/v1/openapi.json"
