"""Who asks: request signatures, clocks, replays, keys that are unknown or dead, roles and API keys."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from events import registry
from events.registry_terms import PublicKey
from infra.http.client import RequestSigner
from services.kernel.decider import Emit
from services.kernel.jws import public_key, raw_public
from tests.edge_calls import COUNT, bearer, refused_as, send_raw, slug
from tests.toy_edge import (
    NOW_MS,
    PUBLIC_URL,
    ToyEdge,
    toy_edge,
)


@pytest.fixture
async def edge() -> AsyncIterator[ToyEdge]:
    async with toy_edge() as made:
        yield made


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
