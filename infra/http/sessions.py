"""Signing in with a wallet (EIP-4361): `POST /v1/sessions/nonces`, then `POST /v1/sessions` with message and signature.

The answer is a session token of 15 minutes. It reads and commands what needs no signature of its own; everything else
is signed by the wallet, command by command. Tokens are answered once, never stored and never logged.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import pydantic
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from events.genesis import chain_of
from infra.http.answers import json_answer, problem_answer, told
from infra.http.commands import Endpoint, read_model
from infra.http.incoming import Incoming, read_body, read_head
from infra.http.parts import Parts
from services.kernel.errors import AuthenticationFailed
from services.kernel.ethereum import personal_digest, recover, signature_bytes
from services.kernel.routes import Body
from services.kernel.sessions import NONCE_CHANCE_BYTES, wallet_member
from services.kernel.siwe import MOST_CHARACTERS, SignIn, instant_ms, judge, parse_sign_in
from services.kernel.strict_json import parse_json

SESSIONS_PATH: Final = "/v1/sessions"
NONCES_PATH: Final = "/v1/sessions/nonces"

NONCE_KID: Final = "sign-in"
"""Under which name the nonce port remembers sign-ins; no key has this id."""

BODY_BYTES: Final = 16_384

_NO_STORE: Final = {"Cache-Control": "no-store"}


class NonceBody(Body):
    """Nothing to say."""


class SignInBody(Body):
    """An EIP-4361 message and the wallet's signature of it (EIP-191)."""

    message: Annotated[str, pydantic.Field(min_length=1, max_length=MOST_CHARACTERS)]
    signature: Annotated[str, pydantic.Field(pattern=r"^0x[0-9a-f]{130}$")]


def session_endpoints(parts: Parts) -> tuple[tuple[str, str, type[Body], Endpoint], ...]:
    """Return name, path, body and endpoint of each route of signing in; all are POST and open to anyone."""
    return (
        ("IssueNonce", NONCES_PATH, NonceBody, _endpoint(parts, _issue_nonce)),
        ("SignIn", SESSIONS_PATH, SignInBody, _endpoint(parts, _sign_in)),
    )


def _endpoint(parts: Parts, answer: Callable[[Parts, Incoming], Awaitable[dict[str, Any]]]) -> Endpoint:
    async def endpoint(request: HttpRequest) -> Response:
        try:
            incoming = read_head(request, parts.settings.public_url)
            incoming = replace(
                incoming, body=await read_body(request, incoming, BODY_BYTES, parts.settings.body_seconds)
            )
            parts.charge(incoming, None, "commands")
            return json_answer(await answer(parts, incoming), _NO_STORE)
        except Exception as error:  # noqa: BLE001 - every error has an answer
            return problem_answer(told(error), _NO_STORE)

    return endpoint


async def _issue_nonce(parts: Parts, incoming: Incoming) -> dict[str, Any]:
    parse_json(incoming.body or b"")
    read_model(NonceBody, incoming.body or b"")
    nonce, ends = parts.sessions.nonce(secrets.token_bytes(NONCE_CHANCE_BYTES), parts.now_ms())
    return {"nonce": nonce, "expires_at": _time(ends)}


async def _sign_in(parts: Parts, incoming: Incoming) -> dict[str, Any]:
    """Judge everything before the nonce is used up, so that a mistake costs no second nonce."""
    parse_json(incoming.body or b"", line_feeds=True)
    body: SignInBody = read_model(SignInBody, incoming.body or b"")
    signature_bytes(body.signature)
    message, now_ms = parse_sign_in(body.message), parts.now_ms()
    community = (await parts.directory.recent()).community
    if community is None:
        raise AuthenticationFailed("no community is founded here yet: there are no members who could sign in")
    judge(message, parts.settings.public_url, chain_of(community).chain_id, now_ms)
    ends = parts.sessions.nonce_ends(message.nonce, now_ms)
    member = await _member(parts, message, body)
    if not await parts.nonces.take(NONCE_KID, message.nonce, ends * 1_000):
        raise AuthenticationFailed("this sign-in is a replay: its nonce was used before")
    until_ms = instant_ms(message.expiration_time) if message.expiration_time else None
    token, expires = parts.sessions.issue(member, message.address, secrets.token_hex(16), now_ms, until_ms)
    return {"token": token, "member": member, "address": message.address, "expires_at": _time(expires)}


async def _member(parts: Parts, message: SignIn, body: SignInBody) -> str:
    """Return the member of the wallet that signed the message; raises AuthenticationFailed."""
    if recover(personal_digest(body.message), body.signature) != message.address:
        raise AuthenticationFailed("the message is not signed by the wallet it names", address=message.address)
    member, _ = await parts.authentication.asked(lambda directory: wallet_member(directory, message.address))
    return member


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
