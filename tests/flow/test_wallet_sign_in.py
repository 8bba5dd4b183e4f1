"""Signing in with a wallet (EIP-4361), and what a session may and may not do."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from events.genesis import Limits
from infra.http.client import RequestSigner
from infra.wallet import WalletSession
from services.kernel.errors import AuthenticationFailed
from services.kernel.jws import parse_jws
from services.kernel.sessions import SESSION_SECONDS, Sessions
from services.kernel.siwe import NONCE_SECONDS
from tests.caller import slug
from tests.registry_world import key, member, private
from tests.toy_edge import PUBLIC_URL
from tests.wallet_edge import WalletEdge, proof, wallet, wallet_edge

FREE = "/v1/toy/free"
COUNT = "/v1/toy/count"
SIGNED = "/v1/toy/signed"


@pytest.fixture
async def edge() -> AsyncIterator[WalletEdge]:
    async with wallet_edge() as made:
        assert (await made.link("aurora", "aurora")).status_code == 200
        yield made


def refused(response: httpx.Response, told: str, status: int = 401, name: str = "authentication-failed") -> None:
    assert (response.status_code, slug(response)) == (status, name), response.text
    assert told in response.json()["detail"], response.text


async def bearer(edge: WalletEdge, token: str, path: str = FREE) -> httpx.Response:
    transport = httpx.ASGITransport(edge.app)
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as client:
        return await client.post(path, json={"name": "a"}, headers={"authorization": f"Bearer {token}"})


async def signed_in(edge: WalletEdge, name: str = "aurora") -> tuple[WalletSession, str]:
    session = edge.session(name)
    response = await session.sign_in()
    assert response.status_code == 200, response.text
    return session, response.json()["token"]


async def test_a_wallet_signs_in_for_a_quarter_of_an_hour(edge: WalletEdge) -> None:
    session = edge.session("aurora")
    response = await session.sign_in()
    answer = response.json()
    assert answer["member"] == member("aurora")
    assert answer["address"] == wallet("aurora").address
    assert response.headers["cache-control"] == "no-store"
    token = edge.tokens.read(answer["token"], edge.clock.now_ms)
    assert (token.sub, token.exp - token.iat) == (member("aurora"), SESSION_SECONDS)
    assert (await bearer(edge, answer["token"])).status_code == 200
    assert (await bearer(edge, answer["token"], COUNT)).status_code == 200


async def test_a_person_with_nothing_but_a_wallet_becomes_a_member_and_signs_in() -> None:
    async with wallet_edge() as edge:
        answer = await edge.join("willow")
        assert answer.json()["member"] == wallet("willow").member
        session, _ = await signed_in(edge, "willow")
        assert (await session.command(COUNT, {"name": "a"})).status_code == 200
        counted = await edge.toy.store.read(0)
        assert wallet("willow").member in counted[0].state.decode()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"chain_id": 1}, "another chain"),
        ({"domain": "evil.example"}, "another domain"),
        ({"domain": "commons.example:8080"}, "another domain"),
        ({"domain": "me@commons.example"}, "another domain"),
        ({"scheme": "http"}, "another domain"),
        ({"uri": "https://evil.example/login"}, "another URI"),
        ({"uri": "https://commons.example.evil.example"}, "another URI"),
        ({"issued_at": "2026-09-21T16:00:00Z"}, "in the future"),
        ({"issued_at": "2026-09-21T13:00:00Z"}, "too old"),
        ({"expiration_time": "2026-09-21T14:13:20Z"}, "has expired"),
        ({"not_before": "2026-09-21T14:13:21Z"}, "not valid yet"),
        ({"nonce": "12345678"}, "none of ours"),
        ({"nonce": "0" * 58}, "none of ours"),
        ({"address": wallet("basalt").address}, "not signed by the wallet it names"),
        ({"address": wallet("aurora").address.lower()}, "EIP-55"),
        ({"issued_at": "2026-13-21T14:13:20Z"}, "is no time"),
        ({"statement": "two\nlines"}, "EIP-4361"),
        ({"statement": "unicode\u00e9"}, "EIP-4361"),
    ],
)
async def test_a_sign_in_for_something_else_is_refused(edge: WalletEdge, changes: dict[str, Any], told: str) -> None:
    session = edge.session("aurora")
    refused(await session.sign_in(await session.message(**changes)), told)


async def test_optional_lines_of_the_message_are_taken(edge: WalletEdge) -> None:
    session = edge.session("aurora")
    message = await session.message(
        scheme="https",
        statement=None,
        uri=f"{PUBLIC_URL}/login",
        expiration_time="2026-09-21T14:18:20Z",
        not_before="2026-09-21T14:13:20Z",
        request_id="",
        resources=("ipfs://Qme7ss3ARVgxv6rXqVPiikMJ8u2NLgmgszg13pYrDKEoiu",),
    )
    response = await session.sign_in(message)
    assert response.json()["expires_at"] == "2026-09-21T14:18:20Z"


async def test_a_nonce_works_once_and_not_for_ever(edge: WalletEdge) -> None:
    session = edge.session("aurora")
    message = await session.message()
    assert (await session.sign_in(message)).status_code == 200
    refused(await session.sign_in(message), "used before")
    late = await session.message()
    edge.clock.now_ms += NONCE_SECONDS * 1_000
    refused(await session.sign_in(late), "nonce has expired")


async def test_a_refused_sign_in_uses_no_nonce_up(edge: WalletEdge) -> None:
    session = edge.session("aurora")
    message = await session.message()
    other = edge.session("basalt").wallet
    refused(await session.sign_in(message, other.sign_text(message.text())), "not signed by the wallet")
    assert (await session.sign_in(message)).status_code == 200


async def test_a_nonce_of_another_instance_is_unknown(edge: WalletEdge) -> None:
    session = edge.session("aurora")
    foreign, _ = Sessions.of(Ed25519PrivateKey.generate()).nonce(b"x" * 12, edge.clock.now_ms)
    refused(await session.sign_in(await session.message(nonce=foreign)), "none of ours")


async def test_a_wallet_nobody_has_does_not_sign_in(edge: WalletEdge) -> None:
    refused(await edge.session("stranger").sign_in(), "no member has this wallet")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-2] + ("1c" if text.endswith("1b") else "1b"),
        lambda text: text[:4] + ("0" if text[4] != "0" else "1") + text[5:],
        lambda text: text[:-2] + ("00" if text.endswith("1b") else "01"),
        lambda text: "0x" + "00" * 65,
    ],
    ids=["the other v", "another r", "v from 0", "zeros"],
)
async def test_a_wrong_signature_is_refused(edge: WalletEdge, spoil: Any) -> None:
    session = edge.session("aurora")
    message = await session.message()
    response = await session.sign_in(message, spoil(session.wallet.sign_text(message.text())))
    assert (response.status_code, slug(response)) == (401, "authentication-failed"), response.text


@pytest.mark.parametrize("signature", ["", "0x", "0x" + "AB" * 65, "ab" * 65, "0x" + "ab" * 64, "0x" + "ab" * 66])
async def test_a_signature_out_of_form_is_refused(edge: WalletEdge, signature: str) -> None:
    session = edge.session("aurora")
    text = (await session.message()).text()
    transport = httpx.ASGITransport(edge.app)
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as client:
        refused(
            await client.post("/v1/sessions", json={"message": text, "signature": signature}),
            "/signature",
            422,
            "invalid-field",
        )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"message": "x", "signature": "0x", "more": 1}, 422),
        ({"message": "a\tb", "signature": "0x" + "ab" * 65}, 400),
        ({"message": "x" * 5_000, "signature": "0x" + "ab" * 65}, 422),
        (["message"], 422),
    ],
)
async def test_a_body_out_of_form_is_refused(edge: WalletEdge, body: Any, status: int) -> None:
    transport = httpx.ASGITransport(edge.app)
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as client:
        assert (await client.post("/v1/sessions", json=body)).status_code == status
        assert (await client.post("/v1/sessions/nonces", json={"more": 1})).status_code == 422


async def test_a_session_ends(edge: WalletEdge) -> None:
    _, token = await signed_in(edge)
    edge.clock.now_ms += SESSION_SECONDS * 1_000 - 1_000
    assert (await bearer(edge, token)).status_code == 200
    edge.clock.now_ms += 1_000
    refused(await bearer(edge, token), "session has expired")


def changed(token: str, **claims: Any) -> str:
    head, body, signature = token.split(".")
    made = json.loads(base64.urlsafe_b64decode(body + "==")) | claims
    return ".".join((head, base64.urlsafe_b64encode(json.dumps(made).encode()).rstrip(b"=").decode(), signature))


async def test_a_changed_token_is_refused(edge: WalletEdge) -> None:
    _, token = await signed_in(edge)
    refused(await bearer(edge, changed(token, sub=member("steward"))), "does not verify")
    refused(await bearer(edge, changed(token, exp=9_999_999_999)), "does not verify")
    refused(await bearer(edge, token[:-1] + ("A" if token[-1] != "A" else "B")), "")
    refused(await bearer(edge, "x.y.z"), "no session token")
    refused(await bearer(edge, "a" * 2_000), "no session token")


async def test_a_token_of_another_instance_is_refused(edge: WalletEdge) -> None:
    other = Sessions.of(Ed25519PrivateKey.generate())
    token, _ = other.issue(member("aurora"), wallet("aurora").address, "1", edge.clock.now_ms)
    refused(await bearer(edge, token), "not of this instance")


async def test_an_acknowledgement_is_no_session_and_a_session_no_other_jws(edge: WalletEdge) -> None:
    _, token = await signed_in(edge)
    ack = (await bearer(edge, token)).headers["commons-ack"]
    refused(await bearer(edge, ack), "no session token")
    with pytest.raises(AuthenticationFailed, match="does not parse"):
        parse_jws(token)


async def test_a_token_for_a_wallet_of_another_member_is_refused(edge: WalletEdge) -> None:
    token, _ = edge.tokens.issue(member("steward"), wallet("aurora").address, "1", edge.clock.now_ms)
    refused(await bearer(edge, token), "another member")


async def test_a_session_alone_moves_nothing_that_needs_a_signature(edge: WalletEdge) -> None:
    _, token = await signed_in(edge)
    refused(await bearer(edge, token, SIGNED), "must be signed by your wallet", 403, "permission-denied")
    assert edge.toy.position == 0


async def test_a_session_has_its_members_roles_and_no_others(edge: WalletEdge) -> None:
    _, token = await signed_in(edge)
    refused(await bearer(edge, token, "/v1/toy/steward"), "roles.grant", 403, "permission-denied")
    await edge.link("steward", "steward")
    _, token = await signed_in(edge, "steward")
    assert (await bearer(edge, token, "/v1/toy/steward")).status_code == 200


async def test_a_session_dies_when_its_wallet_is_replaced(edge: WalletEdge) -> None:
    session, token = await signed_in(edge)
    body = {"wallet": proof(wallet("aurora-2"), edge.domain, member("aurora"), wallet("aurora").address)}
    assert (await edge.by_wallet(session, "RotateWallet", body)).status_code == 200
    await edge.feed.current()
    refused(await bearer(edge, token), "wallet is dead")
    await signed_in(edge, "aurora-2")
    refused(await edge.session("aurora").sign_in(), "wallet is dead")


async def test_a_session_dies_when_its_wallet_is_unlinked(edge: WalletEdge) -> None:
    _, token = await signed_in(edge)
    body = {"address": wallet("aurora").address}
    assert (await edge.as_member("aurora", "UnlinkWallet", body)).status_code == 200
    await edge.feed.current()
    refused(await bearer(edge, token), "wallet is dead")


async def test_a_signature_and_a_session_together_are_refused(edge: WalletEdge) -> None:
    _, token = await signed_in(edge)
    signer = RequestSigner(private("aurora"), key("aurora").kid, now=lambda: edge.clock.now_ms / 1_000)
    raw = b'{"name":"a"}'
    headers = signer.headers("POST", PUBLIC_URL + FREE, raw) | {"authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(edge.app)
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as client:
        refused(await client.post(FREE, content=raw, headers=headers), "not both")


async def test_a_token_and_a_secret_key_are_written_nowhere(edge: WalletEdge, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    session, token = await signed_in(edge)
    answers = [await bearer(edge, token), await bearer(edge, token, SIGNED), await bearer(edge, token[:-4])]
    signature = token.rpartition(".")[2]
    assert signature not in caplog.text
    assert not [answer for answer in answers if signature in answer.text or signature in str(answer.headers)]
    assert token not in repr(vars(session)["wallet"])
    assert session.wallet.private.to_hex() not in repr(session.wallet)


async def test_before_the_founding_nobody_signs_in() -> None:
    async with wallet_edge(found=False) as edge:
        session = edge.session("aurora", {"chainId": 1})
        refused(await session.sign_in(), "no community")


async def test_strangers_cannot_ask_for_nonces_without_end() -> None:
    async with wallet_edge(limits=Limits(commands_per_minute=5)) as edge:
        session = edge.session("stranger")
        statuses = [(await session._post("/v1/sessions/nonces", {})).status_code for _ in range(7)]
    assert statuses == [200] * 5 + [429] * 2
