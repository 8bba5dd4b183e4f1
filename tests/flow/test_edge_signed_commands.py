"""The caller's own signature over a command, and bulks of which every element is judged on its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from events.envelope import decode_envelope
from infra.http.authorizations import authorize
from services.kernel.jws import public_key, raw_public
from tests.edge_calls import ack_of, refused_as, send_raw, slug
from tests.toy_edge import (
    GENESIS,
    ToyEdge,
    toy_edge,
)


@pytest.fixture
async def edge() -> AsyncIterator[ToyEdge]:
    async with toy_edge() as made:
        yield made


def signed_body(edge: ToyEdge, **changes: Any) -> dict[str, str]:
    key = changes.pop("key", edge.keys.member)
    given: dict[str, Any] = {"genesis": GENESIS, "command_name": "CountSigned", "body": {"name": "signed"}} | changes
    return authorize(key, public_key(raw_public(key)).kid, **given)


async def test_a_signed_command_reaches_the_service_with_its_signature(edge: ToyEdge) -> None:
    async with edge.client() as client:
        response = await client.authorized("/v1/toy/signed", "CountSigned", {"name": "signed"}, GENESIS)
    assert response.status_code == 200, response.text


async def test_one_authorization_takes_effect_once(edge: ToyEdge) -> None:
    body = signed_body(edge, nonce="n1")
    async with edge.client() as client:
        first = await client.command("/v1/toy/signed", body)
        again = await client.command("/v1/toy/signed", body, idempotency_key="n1")
        renamed = await client.command("/v1/toy/signed", body, idempotency_key="n2")
        other = await client.command("/v1/toy/signed", signed_body(edge, nonce="n1", body={"name": "signed", "by": 9}))
    assert first.json() == again.json()
    assert again.headers["idempotency-hit"] == "true"
    assert (renamed.status_code, slug(renamed)) == (422, "invalid-field")
    assert (other.status_code, slug(other)) == (409, "other-inputs")
    (record,) = await edge.appender.store.read(0)
    assert decode_envelope(record.state).commandid == "n1"


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"genesis": "cd" * 32}, 401, "another community"),
        ({"genesis": ""}, 401, "another community"),
        ({"command_name": "Count"}, 401, "another command"),
        ({"body": {"name": "signed", "more": 1}}, 422, "/more"),
        ({"body": {"name": "signed", "by": 1.5}}, 400, "no integer"),
        ({"body": []}, 422, "/"),
        ({"nonce": "x" * 129}, 422, "command id"),
    ],
)
async def test_an_authorization_of_something_else_is_refused(
    edge: ToyEdge, changes: dict[str, Any], status: int, told: str
) -> None:
    async with edge.client() as client:
        response = await client.command("/v1/toy/signed", signed_body(edge, **changes))
    assert response.status_code == status, response.text
    assert told in response.json()["detail"]
    assert edge.appender.position == 0


async def test_an_authorization_by_another_one_is_refused(edge: ToyEdge) -> None:
    async with edge.client() as client:
        response = await client.command("/v1/toy/signed", signed_body(edge, key=edge.keys.steward))
        await refused_as(edge, response, "another one's key", edge.keys.member_id)
        response = await client.command("/v1/toy/signed", signed_body(edge, key=Ed25519PrivateKey.generate()))
        await refused_as(edge, response, "no member or node", edge.keys.member_id)


async def test_an_authorization_that_was_changed_is_refused(edge: ToyEdge) -> None:
    head, _, signature = signed_body(edge)["jws"].split(".")
    other = signed_body(edge, body={"name": "signed", "by": 100})["jws"].split(".")[1]
    async with edge.client() as client:
        response = await client.command("/v1/toy/signed", {"jws": f"{head}.{other}.{signature}"})
        await refused_as(edge, response, "does not verify", edge.keys.member_id)


@pytest.mark.parametrize("body", [{}, {"jws": 1}, {"jws": "a.b.c", "more": 1}, {"name": "signed"}, ["jws"]])
async def test_a_body_without_the_callers_signature_is_refused(edge: ToyEdge, body: Any) -> None:
    response = await send_raw(edge, json.dumps(body).encode(), "/v1/toy/signed")
    assert (response.status_code, slug(response)) == (422, "invalid-field")


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c.d", "!.!.!", "e30.e30.AA"])
async def test_a_jws_that_is_none_is_refused(edge: ToyEdge, text: str) -> None:
    response = await send_raw(edge, json.dumps({"jws": text}).encode(), "/v1/toy/signed")
    assert (response.status_code, slug(response)) == (401, "authentication-failed")


async def test_every_element_of_a_bulk_has_its_own_answer(edge: ToyEdge) -> None:
    async with edge.client(edge.keys.node) as client:
        response = await client.command("/v1/toy/many", ["a", "b", "no name", "a", "x" * 101])
    assert response.status_code == 200, response.text
    a, b, bad, again, long = response.json()
    assert a == {"position": "1", "status": "accepted", "total": 1}
    assert b == {"position": "2", "status": "accepted", "total": 1}
    assert (bad["status"], bad["code"]) == ("rejected", "invalid-field")
    assert again == {"position": "1", "status": "duplicate", "total": 1}
    assert (long["status"], long["code"]) == ("rejected", "too-large")
    assert response.headers["commons-position"] == "toy=2"
    ack = ack_of(edge, response)
    assert ack.position == "2"
    assert ack.answer_sha256 == hashlib.sha256(response.content).hexdigest()


@pytest.mark.parametrize(
    ("body", "status"),
    [(["a"] * 65, 413), ([], 422), ([1], 422), ({"a": 1}, 422), ("a", 422), (["x" * 4_200_000], 413)],
)
async def test_a_bulk_that_is_none_is_refused_whole(edge: ToyEdge, body: Any, status: int) -> None:
    async with edge.client(edge.keys.node) as client:
        response = await client.command("/v1/toy/many", body)
    assert response.status_code == status, response.text
    assert edge.appender.position == 0


async def test_the_elements_of_a_bulk_share_one_commit(edge: ToyEdge) -> None:
    async with edge.client(edge.keys.node) as client:
        await client.command("/v1/toy/many", [f"n{index}" for index in range(64)])
    times = {decode_envelope(record.state).time for record in await edge.appender.store.read(0)}
    assert edge.appender.position == 64
    assert len(times) == 1
