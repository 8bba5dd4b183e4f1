"""Calls to the toy's edge and what to make of the answers."""

from __future__ import annotations

import httpx
import msgspec

from infra.http.client import RequestSigner
from services.kernel.acks import Ack
from services.kernel.jws import parse_jws, raw_public
from tests.toy_edge import (
    KEY_ID,
    PUBLIC_URL,
    SECRET,
    ToyEdge,
)

COUNT = "/v1/toy/count"


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


async def refused_as(edge: ToyEdge, response: httpx.Response, told: str, actor: str | None = None) -> None:
    assert (response.status_code, slug(response)) == (401, "authentication-failed"), response.text
    assert told in response.json()["detail"], response.text
    assert "Signature" in response.headers["www-authenticate"]
    ack = ack_of(edge, response)
    assert (ack.refusal, ack.actor) == ("authentication-failed", actor)
    assert edge.appender.position == 0


def bearer(secret: str = SECRET, key_id: str = KEY_ID) -> dict[str, str]:
    return {"authorization": f"Bearer ck_{key_id}_{secret}"}
