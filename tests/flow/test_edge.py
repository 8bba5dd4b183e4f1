"""The strict HTTP edge over the toy service: who may do what, and what becomes of every bad request."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from events import registry
from events.envelope import decode_envelope
from events.genesis import Limits
from events.registry_terms import PublicKey
from events.store import StoreFull, StoreUnavailable
from infra.http.authorizations import authorize
from infra.http.client import RequestSigner, SignedClient
from services.kernel.acks import Ack, request_hash
from services.kernel.decider import Emit
from services.kernel.jws import parse_jws, public_key, raw_public
from tests.toy_edge import (
    GENESIS,
    KEY_ID,
    NOW_MS,
    PUBLIC_URL,
    SECRET,
    AwayStore,
    Community3,
    ToyEdge,
    toy_edge,
)

COUNT = "/v1/toy/count"


@pytest.fixture
async def edge() -> AsyncIterator[ToyEdge]:
    async with toy_edge() as made:
        yield made


def slug(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    return str(body["type"].removeprefix("urn:commons:problem:"))


def ack_of(edge: ToyEdge, response: httpx.Response) -> Ack:
    jws = parse_jws(response.headers["commons-ack"])
    assert jws.kid == edge.acks.kid
    jws.verify(raw_public(edge.acks.private))
    return msgspec.json.decode(jws.payload, type=Ack)


async def send_raw(
    edge: ToyEdge, body: bytes, path: str = COUNT, headers: dict[str, str] | None = None
) -> httpx.Response:
    """Send these very bytes, rightly signed; `headers` are added or replaced afterwards."""
    signer = RequestSigner(edge.keys.member, now=lambda: edge.clock.now_ms / 1_000)
    signed = signer.headers("POST", PUBLIC_URL + path, body) | (headers or {})
    async with edge.plain() as client:
        return await client.post(path, content=body, headers=signed)


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
    assert (ack.service, ack.position, ack.refusal) == ("toy", "1", None)
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
    assert (ack.refusal, ack.position) == ("ceiling-reached", None)


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


# Who asks.


async def refused_as(edge: ToyEdge, response: httpx.Response, told: str) -> None:
    assert (response.status_code, slug(response)) == (401, "authentication-failed"), response.text
    assert told in response.json()["detail"], response.text
    assert "Signature" in response.headers["www-authenticate"]
    assert ack_of(edge, response).refusal == "authentication-failed"
    assert edge.appender.position == 0


async def test_a_command_nobody_signed_is_refused(edge: ToyEdge) -> None:
    async with edge.plain() as client:
        response = await client.post(COUNT, json={"name": "a"})
    await refused_as(edge, response, "transactions.post")


async def test_a_wrong_signature_is_refused(edge: ToyEdge) -> None:
    wrong = base64.b64encode(b"\x01" * 64).decode()
    response = await send_raw(edge, b'{"name":"a"}', headers={"signature": f"commons=:{wrong}:"})
    await refused_as(edge, response, "does not verify")
    assert response.json()["target_uri"] == PUBLIC_URL + COUNT


async def test_another_ones_key_is_refused(edge: ToyEdge) -> None:
    mine = RequestSigner(edge.keys.steward, kid=public_key(raw_public(edge.keys.member)).kid, now=lambda: NOW_MS / 1e3)
    async with edge.client(signer=mine) as client:
        await refused_as(edge, await client.command(COUNT, {"name": "a"}), "does not verify")


async def test_a_body_other_than_the_signed_one_is_refused(edge: ToyEdge) -> None:
    signer = RequestSigner(edge.keys.member, now=lambda: NOW_MS / 1_000)
    headers = signer.headers("POST", PUBLIC_URL + COUNT, b'{"name":"a"}')
    async with edge.plain() as client:
        response = await client.post(COUNT, content=b'{"name":"b"}', headers=headers)
    await refused_as(edge, response, "Content-Digest")


@pytest.mark.parametrize("path", ["/v1/toy/count?x=1", "/v1/toy/free"])
async def test_a_signature_for_another_target_is_refused(edge: ToyEdge, path: str) -> None:
    signer = RequestSigner(edge.keys.member, now=lambda: NOW_MS / 1_000)
    headers = signer.headers("POST", PUBLIC_URL + path, b'{"name":"a"}')
    async with edge.plain() as client:
        response = await client.post(COUNT, content=b'{"name":"a"}', headers=headers)
    await refused_as(edge, response, "does not verify")


async def test_the_host_header_decides_nothing(edge: ToyEdge) -> None:
    signer = RequestSigner(edge.keys.member, now=lambda: NOW_MS / 1_000)
    body = b'{"name":"a"}'
    evil = signer.headers("POST", "https://evil.example" + COUNT, body) | {"host": "evil.example"}
    right = signer.headers("POST", PUBLIC_URL + COUNT, body) | {"host": "evil.example"}
    async with edge.plain() as client:
        assert (await client.post(COUNT, content=body, headers=evil)).status_code == 401
        assert (await client.post(COUNT, content=body, headers=right)).status_code == 200


async def test_a_replayed_request_is_refused_once_it_was_accepted(edge: ToyEdge) -> None:
    signer = RequestSigner(edge.keys.member, now=lambda: NOW_MS / 1_000)
    headers = signer.headers("POST", PUBLIC_URL + COUNT, b'{"name":"a"}')
    async with edge.plain() as client:
        first = await client.post(COUNT, content=b'{"name":"a"}', headers=headers)
        replay = await client.post(COUNT, content=b'{"name":"a"}', headers=headers)
    assert first.status_code == 200
    assert (replay.status_code, slug(replay)) == (401, "authentication-failed")
    assert "replay" in replay.json()["detail"]
    assert edge.appender.position == 1


async def test_a_replay_under_another_idempotency_key_is_refused_by_the_signature(edge: ToyEdge) -> None:
    signer = RequestSigner(edge.keys.member, now=lambda: NOW_MS / 1_000)
    headers = signer.headers("POST", PUBLIC_URL + COUNT, b'{"name":"a"}', idempotency_key="one")
    async with edge.plain() as client:
        response = await client.post(COUNT, content=b'{"name":"a"}', headers=headers | {"idempotency-key": "two"})
    await refused_as(edge, response, "does not verify")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (31, "clock is off: the signature was made 31 s in the future"),
        (4_000, "clock is off"),
        (-301, "expired 1 s ago"),
        (-90_000, "clock is off"),
    ],
)
async def test_a_clock_that_is_off_is_told_so(edge: ToyEdge, seconds: int, told: str) -> None:
    signer = RequestSigner(edge.keys.member, now=lambda: NOW_MS / 1_000 + seconds)
    async with edge.client(signer=signer) as client:
        await refused_as(edge, await client.command(COUNT, {"name": "a"}), told)


@pytest.mark.parametrize("seconds", [29, -299])
async def test_a_clock_within_the_tolerance_is_taken(edge: ToyEdge, seconds: int) -> None:
    signer = RequestSigner(edge.keys.member, now=lambda: NOW_MS / 1_000 + seconds)
    async with edge.client(signer=signer) as client:
        assert (await client.command(COUNT, {"name": "a"})).status_code == 200


def change_input(edge: ToyEdge, old: str, new: str) -> dict[str, str]:
    """Headers signed anew over a Signature-Input in which `old` is replaced by `new`."""
    signer = RequestSigner(edge.keys.member, now=lambda: NOW_MS / 1_000)
    headers = signer.headers("POST", PUBLIC_URL + COUNT, b'{"name":"a"}')
    params = headers["signature-input"].removeprefix("commons=").replace(old, new)
    lines = {
        '"@method"': "POST",
        '"@target-uri"': PUBLIC_URL + COUNT,
        '"content-type"': "application/json",
        '"content-digest"': headers["content-digest"],
    }
    covered = params[1 : params.index(")")].split()
    base = "\n".join([*(f"{name}: {lines[name]}" for name in covered), f'"@signature-params": {params}'])
    signature = base64.b64encode(edge.keys.member.sign(base.encode())).decode()
    return headers | {"signature-input": f"commons={params}", "signature": f"commons=:{signature}:"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"content-digest"', "", "cover exactly"),
        ('"content-type"', "", "cover exactly"),
        ('"@target-uri"', "", "cover exactly"),
        ('"@method"', "", "cover exactly"),
        (';alg="ed25519"', "", "parameters are exactly"),
        (';alg="ed25519"', ';alg="hmac-sha256"', "algorithm"),
        (f";expires={NOW_MS // 1_000 + 300}", "", "parameters are exactly"),
        (f";expires={NOW_MS // 1_000 + 300}", f";expires={NOW_MS // 1_000 + 301}", "expires must be"),
        (f";created={NOW_MS // 1_000}", "", "parameters are exactly"),
        (";nonce", ";tag", "parameters are exactly"),
        (";keyid", ";tag", "parameters are exactly"),
    ],
)
async def test_a_signature_that_leaves_something_out_is_refused(edge: ToyEdge, old: str, new: str, told: str) -> None:
    headers = change_input(edge, old, new)
    async with edge.plain() as client:
        response = await client.post(COUNT, content=b'{"name":"a"}', headers=headers)
    await refused_as(edge, response, told)


async def test_the_hand_made_signature_of_these_tests_verifies_when_nothing_is_changed(edge: ToyEdge) -> None:
    async with edge.plain() as client:
        response = await client.post(COUNT, content=b'{"name":"a"}', headers=change_input(edge, "", ""))
    assert response.status_code == 200, response.text


async def test_a_header_that_stands_twice_is_refused(edge: ToyEdge) -> None:
    signer = RequestSigner(edge.keys.member, now=lambda: NOW_MS / 1_000)
    headers = list(signer.headers("POST", PUBLIC_URL + COUNT, b'{"name":"a"}').items())
    async with edge.plain() as client:
        response = await client.post(
            COUNT, content=b'{"name":"a"}', headers=[*headers, ("idempotency-key", "a"), ("idempotency-key", "b")]
        )
    assert (response.status_code, slug(response)) == (400, "malformed-request")


async def test_a_stranger_is_refused_and_so_is_nonsense(edge: ToyEdge) -> None:
    async with edge.client(Ed25519PrivateKey.generate()) as client:
        await refused_as(edge, await client.command(COUNT, {"name": "a"}), "no member or node")
    for field in ("signature", "signature-input"):
        for nonsense in ("", "x", "commons=1", "commons=:AA==:, other=:AA==:", "x" * 5_000, "commons=()"):
            response = await send_raw(edge, b'{"name":"a"}', headers={field: nonsense})
            assert response.status_code == 401, (field, nonsense)


async def test_a_key_registered_a_moment_ago_is_known(edge: ToyEdge) -> None:
    new = Ed25519PrivateKey.generate()
    key = public_key(raw_public(new))
    async with edge.client() as client:
        await client.command(COUNT, {"name": "a"})
    assert edge.feed.latest.keys.get(key.kid) is None
    await edge.record(Emit("member/new", registry.MemberRegistered("member/new", "eve", "human", key)))
    async with edge.client(new) as client:
        assert (await client.command(COUNT, {"name": "a"})).status_code == 200


async def test_strangers_cannot_make_the_directory_refresh_endlessly(edge: ToyEdge) -> None:
    reads = 0
    store: Any = edge.registry.store
    read = store.read

    async def counted(*arguments: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(*arguments)

    store.read = counted
    async with edge.client(Ed25519PrivateKey.generate()) as client:
        answers = await asyncio.gather(*(client.command(COUNT, {"name": "a"}) for _ in range(40)))
    assert {answer.status_code for answer in answers} == {401}
    assert reads <= 4


async def test_a_dead_key_is_refused_with_the_reason(edge: ToyEdge) -> None:
    new = public_key(raw_public(Ed25519PrivateKey.generate()))
    old: PublicKey = public_key(raw_public(edge.keys.member))
    subject = edge.keys.member_id
    await edge.record(Emit(subject, registry.KeyRotated(subject, old.kid, new, "jws", "jws")))
    await edge.feed.current()
    async with edge.client() as client:
        await refused_as(edge, await client.command(COUNT, {"name": "a"}), "dead")


async def test_a_key_that_was_rotated_elsewhere_is_dead_within_a_moment(edge: ToyEdge) -> None:
    async with edge.client() as client:
        assert (await client.command(COUNT, {"name": "a"})).status_code == 200
        new = public_key(raw_public(Ed25519PrivateKey.generate()))
        old = public_key(raw_public(edge.keys.member)).kid
        subject = edge.keys.member_id
        await edge.record(Emit(subject, registry.KeyRotated(subject, old, new, "jws", "jws")))
        assert old in edge.feed.latest.keys, "the fact is committed, but this edge has not looked since"
        await asyncio.sleep(0.3)
        assert (await client.command(COUNT, {"name": "a"})).status_code == 401


async def test_a_missing_role_is_refused(edge: ToyEdge) -> None:
    async with edge.client() as member, edge.client(edge.keys.steward) as steward, edge.client(edge.keys.node) as node:
        refused = await member.command("/v1/toy/steward", {"name": "a"})
        assert (refused.status_code, slug(refused)) == (403, "permission-denied")
        assert refused.json()["permission"] == "roles.grant"
        assert (await steward.command("/v1/toy/steward", {"name": "a"})).status_code == 200
        assert (await node.command(COUNT, {"name": "a"})).status_code == 403


# API keys.


def bearer(secret: str = SECRET, key_id: str = KEY_ID) -> dict[str, str]:
    return {"authorization": f"Bearer ck_{key_id}_{secret}"}


async def test_an_api_key_reads_and_commands_what_moves_nothing(edge: ToyEdge) -> None:
    async with edge.plain() as client:
        free = await client.post("/v1/toy/free", json={"name": "a"}, headers=bearer())
        moving = await client.post(COUNT, json={"name": "a"}, headers=bearer())
        read = await client.get("/v1/views/counts/a", headers=bearer())
    assert free.status_code == 200
    assert (moving.status_code, slug(moving)) == (403, "permission-denied")
    assert read.json()["actor"] == edge.keys.member_id
    assert edge.appender.position == 1


@pytest.mark.parametrize(
    "headers",
    [
        bearer("wrong"),
        bearer(key_id="f" * 16),
        {"authorization": "Bearer ck_"},
        {"authorization": "Basic YTpi"},
        {"authorization": ""},
    ],
)
async def test_a_wrong_api_key_is_refused_even_for_a_public_view(edge: ToyEdge, headers: dict[str, str]) -> None:
    async with edge.plain() as client:
        assert (await client.post("/v1/toy/free", json={"name": "a"}, headers=headers)).status_code == 401
        assert (await client.get("/v1/views/counts/a", headers=headers)).status_code == 401


async def test_an_api_key_ends(edge: ToyEdge) -> None:
    edge.clock.now_ms += 60_000
    async with edge.plain() as client:
        response = await client.post("/v1/toy/free", json={"name": "a"}, headers=bearer())
    await refused_as(edge, response, "expired")


async def test_a_signature_and_an_api_key_together_are_refused(edge: ToyEdge) -> None:
    response = await send_raw(edge, b'{"name":"a"}', headers=bearer())
    await refused_as(edge, response, "not both")


# The caller's own signature over the command.


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
        await refused_as(edge, response, "another one's key")
        response = await client.command("/v1/toy/signed", signed_body(edge, key=Ed25519PrivateKey.generate()))
        await refused_as(edge, response, "no member or node")


async def test_an_authorization_that_was_changed_is_refused(edge: ToyEdge) -> None:
    head, _, signature = signed_body(edge)["jws"].split(".")
    other = signed_body(edge, body={"name": "signed", "by": 100})["jws"].split(".")[1]
    async with edge.client() as client:
        response = await client.command("/v1/toy/signed", {"jws": f"{head}.{other}.{signature}"})
        await refused_as(edge, response, "does not verify")


@pytest.mark.parametrize("body", [{}, {"jws": 1}, {"jws": "a.b.c", "more": 1}, {"name": "signed"}, ["jws"]])
async def test_a_body_without_the_callers_signature_is_refused(edge: ToyEdge, body: Any) -> None:
    response = await send_raw(edge, json.dumps(body).encode(), "/v1/toy/signed")
    assert (response.status_code, slug(response)) == (422, "invalid-field")


@pytest.mark.parametrize("text", ["", "a.b", "a.b.c.d", "!.!.!", "e30.e30.AA"])
async def test_a_jws_that_is_none_is_refused(edge: ToyEdge, text: str) -> None:
    response = await send_raw(edge, json.dumps({"jws": text}).encode(), "/v1/toy/signed")
    assert (response.status_code, slug(response)) == (401, "authentication-failed")


# Bulks.


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


# Limits, and a store that is away.


async def test_a_rate_limit_says_when_to_come_back() -> None:
    async with (
        toy_edge(Community3(limits=Limits(commands_per_minute=2))) as edge,
        edge.client() as client,
        edge.client(edge.keys.steward) as other,
    ):
        answers = [await client.command(COUNT, {"name": "a"}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert slug(answers[2]) == "too-many-requests"
        assert answers[2].headers["retry-after"] == "1"
        assert (await other.command(COUNT, {"name": "a"})).status_code == 200, "limits are per actor"
        edge.clock.now_ms += 30_000
        assert (await client.command(COUNT, {"name": "a"})).status_code == 200


async def test_bytes_are_limited_too() -> None:
    async with toy_edge(Community3(limits=Limits(bytes_per_minute=1_000))) as edge, edge.client() as client:
        assert (await client.command(COUNT, {"name": "a", "padding": "x" * 2_000})).status_code == 200
        assert (await client.command(COUNT, {"name": "a"})).status_code == 429


async def test_those_who_do_not_sign_are_limited_by_address() -> None:
    async with (
        toy_edge(Community3(limits=Limits(queries_per_minute=2, commands_per_minute=2))) as edge,
        edge.plain() as client,
        edge.client() as signed,
    ):
        found = [(await client.get("/v1/views/counts/a")).status_code for _ in range(3)]
        assert found == [404, 404, 429]
        failed = [(await client.post(COUNT, json={"name": "a"})).status_code for _ in range(3)]
        assert failed == [401, 401, 429]
        assert (await signed.command(COUNT, {"name": "a"})).status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [(StoreUnavailable("gone"), 503, "unavailable"), (StoreFull("full"), 507, "disk-full")],
)
async def test_a_store_that_is_away_or_full_says_so(error: Exception, status: int, told: str) -> None:
    store = AwayStore("toy")
    async with toy_edge(store=store) as edge, edge.client() as client, edge.client(edge.keys.node) as node:
        store.error = error
        for response in (
            await client.command(COUNT, {"name": "a"}),
            await node.command("/v1/toy/many", ["a", "b"]),
        ):
            assert (response.status_code, slug(response)) == (status, told)
            assert ("retry-after" in response.headers) == (status == 503)
            assert ack_of(edge, response).refusal == told
        store.error = None
        assert (await client.command(COUNT, {"name": "a"})).status_code == 200


async def test_the_client_waits_for_a_store_that_comes_back_and_counts_once() -> None:
    store = AwayStore("toy")
    async with toy_edge(store=store) as edge, edge.client(patience_seconds=20) as client:
        store.error = StoreUnavailable("gone")
        asking = asyncio.create_task(client.command(COUNT, {"name": "a"}, idempotency_key="once"))
        await asyncio.sleep(0.2)
        store.error = None
        response = await asking
    assert response.json()["total"] == 1


async def test_a_store_that_never_answers_is_a_503(edge: ToyEdge) -> None:
    store = AwayStore("toy")
    async with toy_edge(store=store, submit_seconds=0.1) as slow, store.session(), slow.client() as client:
        response = await client.command(COUNT, {"name": "a"})
    assert (response.status_code, slug(response)) == (503, "unavailable")


async def test_a_mistake_of_ours_is_a_500_without_details(edge: ToyEdge) -> None:
    async with edge.client() as client:
        response = await client.command(COUNT, {"name": "stumble"})
    assert (response.status_code, slug(response)) == (500, "internal")
    assert "ZeroDivision" not in response.text


# Queries.


async def test_a_view_answers_with_the_position_it_reflects(edge: ToyEdge) -> None:
    async with edge.client() as client, edge.plain() as anyone:
        await client.command(COUNT, {"name": "a", "by": 4})
        signed = await client.query("/v1/views/counts/a", {"limit": 20}, at_least={"toy": 1, "metering": 0})
        public = await anyone.get("/v1/views/counts/a")
    assert signed.json() == {"name": "a", "total": 4, "actor": edge.keys.member_id, "limit": 20}
    assert signed.headers["commons-position"] == "toy=1"
    assert public.json()["actor"] is None


async def test_private_views_need_a_signature() -> None:
    async with toy_edge(Community3(public_views=False)) as edge, edge.plain() as anyone, edge.client() as client:
        assert (await anyone.get("/v1/views/counts/a")).status_code == 401
        assert (await client.query("/v1/views/counts/a")).status_code == 404


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("?limit=0", {}, 422),
        ("?limit=x", {}, 422),
        ("?limit=1&limit=2", {}, 422),
        ("?name=b", {}, 422),
        ("?more=1", {}, 422),
        ("?limit=%00", {}, 422),
        ("", {"commons-at-least": "toy"}, 422),
        ("", {"commons-at-least": "toy=01"}, 422),
        ("", {"commons-at-least": "toy=1, toy=2"}, 422),
        ("", {"commons-at-least": "toy=99"}, 503),
        ("", {"commons-at-least": "toy=0"}, 404),
    ],
)
async def test_a_query_that_is_none_is_refused(edge: ToyEdge, query: str, headers: dict[str, str], status: int) -> None:
    async with edge.plain() as client:
        response = await client.get(f"/v1/views/counts/a{query}", headers=headers)
    assert response.status_code == status, response.text
    assert slug(response)
    assert response.headers.get("retry-after") == ("3" if status == 503 else None)


async def test_a_view_whose_database_is_away_is_a_503(edge: ToyEdge) -> None:
    async with edge.plain() as client:
        response = await client.get("/v1/views/counts/gone")
    assert (response.status_code, slug(response)) == (503, "unavailable")


async def test_an_unknown_path_and_a_wrong_method_are_problems(edge: ToyEdge) -> None:
    async with edge.plain() as client:
        unknown, wrong = await client.get("/v1/nothing"), await client.get(COUNT)
    assert (unknown.status_code, slug(unknown)) == (404, "not-found")
    assert (wrong.status_code, slug(wrong)) == (405, "method-not-allowed")
    assert wrong.headers["allow"] == "POST"


async def test_health_says_live_at_once_and_ready_when_nothing_is_missing(edge: ToyEdge) -> None:
    async with edge.plain() as client:
        assert (await client.get("/health/live")).json() == {"status": "live"}
        assert (await client.get("/health/ready")).json() == {"status": "ready"}
        edge.missing.append("the store is starting")
        response = await client.get("/health/ready")
    assert (response.status_code, slug(response)) == (503, "not-ready")
    assert response.json()["detail"] == "the store is starting"


async def test_the_openapi_document_describes_bodies_permissions_and_signatures(edge: ToyEdge) -> None:
    async with edge.plain() as client:
        document = (await client.get("/v1/openapi.json")).json()
    operation = document["paths"][COUNT]["post"]
    assert operation["x-permission"] == "transactions.post"
    assert operation["security"] == [{"signature": []}]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/CountBody"
    }
    assert document["components"]["schemas"]["CountBody"]["additionalProperties"] is False
    assert {parameter["name"] for parameter in document["paths"]["/v1/views/counts/{name}"]["get"]["parameters"]} == {
        "name",
        "limit",
        "Commons-At-Least",
    }


async def test_the_client_reaches_a_server_behind_another_address(edge: ToyEdge) -> None:
    signer = RequestSigner(edge.keys.member, now=lambda: NOW_MS / 1_000)
    transport = httpx.ASGITransport(edge.app)
    async with SignedClient(
        "http://10.0.0.1:8700", edge.keys.member, public_url=PUBLIC_URL, transport=transport, signer=signer
    ) as client:
        assert (await client.command(COUNT, {"name": "a"})).status_code == 200
