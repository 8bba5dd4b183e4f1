"""A caller over HTTP for tests: signs every request with one key, and can be told to do it wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import msgspec

from infra.http.authorizations import authorize
from infra.http.client import RequestSigner
from infra.keys import SigningKey
from services.kernel.acks import HEADER, Ack
from services.kernel.jws import parse_jws, raw_public


class Caller:
    """One key at one address. Answers come back as they are: nothing is asked again."""

    def __init__(
        self,
        url: str,
        key: SigningKey,
        genesis: str = "",
        *,
        now: Callable[[], float] = time.time,
        timeout_seconds: float = 60.0,
    ) -> None:
        self.url = url
        self.key = key
        self.genesis = genesis
        self.signer = RequestSigner(key.private, now=now)
        self._http = httpx.Client(base_url=url, timeout=timeout_seconds, trust_env=False)

    def close(self) -> None:
        self._http.close()

    def headers(self, method: str, path: str, body: bytes | None, **more: Any) -> dict[str, str]:
        return self.signer.headers(method, self.url + path, body, **more)

    def send(self, path: str, body: bytes, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """POST these very bytes with these very headers; rightly signed where none are given."""
        return self._http.post(path, content=body, headers=headers or self.headers("POST", path, body))

    def command(self, path: str, body: Any, step: str | None = None) -> httpx.Response:
        """POST a command, signed, under an idempotency key when `step` names one."""
        raw = msgspec.json.encode(body)
        return self.send(path, raw, self.headers("POST", path, raw, idempotency_key=step))

    def authorized(self, name: str, path: str, body: Mapping[str, Any], nonce: str | None = None) -> httpx.Response:
        """POST a command that carries the caller's own signature; `nonce` names it."""
        return self.command(path, authorize(self.signer.private, self.key.kid, self.genesis, name, body, nonce))

    def view(self, path: str, at_least: str = "") -> httpx.Response:
        """GET a view, signed."""
        headers = self.headers("GET", path, None) | ({"commons-at-least": at_least} if at_least else {})
        return self._http.get(path, headers=headers)

    def bare(self, method: str, path: str, body: bytes | None = None, **headers: str) -> httpx.Response:
        """Send without a signature."""
        kind = {"content-type": "application/json"} if body is not None else {}
        return self._http.request(method, path, content=body, headers=kind | headers)


def slug(response: httpx.Response) -> str:
    """Return the last part of a problem's type, after a look at its form (RFC 9457)."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body = response.json()
    assert body["status"] == response.status_code
    return str(body["type"].removeprefix("urn:commons:problem:"))


def ack_of(response: httpx.Response, key: SigningKey) -> Ack:
    """Return what the instance signed about its answer, verified with the instance's key."""
    jws = parse_jws(response.headers[HEADER])
    assert jws.kid == key.kid
    jws.verify(raw_public(key.private))
    return msgspec.json.decode(jws.payload, type=Ack)
