"""A client that signs every request (RFC 9421, Ed25519) and asks again, safely, while the server is away."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Final, Self

import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver, algorithms

from infra.http.authorizations import authorize
from infra.http.incoming import JSON
from infra.http.signatures import WINDOW_SECONDS, WITH_BODY, WITHOUT_BODY, Message
from services.kernel.jws import raw_public, thumbprint

WAIT_STATUS: Final = frozenset({429, 503})
"""Answers that say when to ask again."""

FIRST_WAIT_SECONDS: Final = 0.2
LONGEST_WAIT_SECONDS: Final = 5.0

Body = Mapping[str, Any] | list[Any] | tuple[Any, ...]


class _OneKey(HTTPSignatureKeyResolver):
    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    def resolve_private_key(self, key_id: str) -> Ed25519PrivateKey:  # noqa: ARG002 - there is one key
        return self._private


class RequestSigner:
    """Signs requests with one key. `now` tells seconds since 1970; tests set it wrong on purpose."""

    def __init__(
        self, private: Ed25519PrivateKey, kid: str | None = None, now: Callable[[], float] = time.time
    ) -> None:
        """Take the key; its id is its thumbprint unless told otherwise."""
        self.private = private
        self.kid = kid or thumbprint(raw_public(private))
        self._now = now
        self._signer = HTTPMessageSigner(signature_algorithm=algorithms.ED25519, key_resolver=_OneKey(private))

    def headers(
        self, method: str, url: str, body: bytes | None, *, idempotency_key: str | None = None, nonce: str | None = None
    ) -> dict[str, str]:
        """Return the headers of a signed request, names in lower case; the nonce is a fresh one unless given."""
        headers: dict[str, str] = {}
        covered = sorted(WITHOUT_BODY if body is None else WITH_BODY)
        if body is not None:
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            headers |= {"content-type": JSON, "content-digest": f"sha-256=:{digest}:"}
        if idempotency_key is not None:
            headers["idempotency-key"] = idempotency_key
            covered.append("idempotency-key")
        created = datetime.fromtimestamp(self._now(), UTC)
        self._signer.sign(
            Message(method, url, headers),
            key_id=self.kid,
            created=created,
            expires=created + timedelta(seconds=WINDOW_SECONDS),
            nonce=nonce or secrets.token_urlsafe(16),
            label="commons",
            covered_component_ids=covered,
            use_existing_digest=body is not None,
        )
        return {name.lower(): value for name, value in headers.items()}


class SignedClient:
    """Calls one server. Answers come back as they are: only 429, 503 and lost connections are asked again.

    Every attempt carries a fresh nonce and the same Idempotency-Key, so a command takes effect once.
    """

    def __init__(
        self,
        base_url: str,
        private: Ed25519PrivateKey,
        *,
        public_url: str | None = None,
        patience_seconds: float = 60.0,
        timeout_seconds: float = 60.0,
        connections: int = 64,
        transport: httpx.AsyncBaseTransport | None = None,
        signer: RequestSigner | None = None,
    ) -> None:
        """Call `base_url` and sign `public_url` (the same by default); give up after `patience_seconds` of retries."""
        self.signer = signer or RequestSigner(private)
        self._public_url = (public_url or base_url).rstrip("/")
        self._base_path = httpx.URL(base_url).path.rstrip("/")
        self._patience_seconds = patience_seconds
        limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._http = httpx.AsyncClient(
            base_url=base_url, timeout=timeout_seconds, limits=limits, transport=transport, trust_env=False
        )

    @property
    def kid(self) -> str:
        """The id of the signing key."""
        return self.signer.kid

    async def __aenter__(self) -> Self:
        """Enter; leaving closes the connections."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def command(self, path: str, body: Body, *, idempotency_key: str | None = None) -> httpx.Response:
        """POST a command. Without a key one is made up, so that retries are safe; a signed body names itself.

        Raises httpx.TransportError when the server stays unreachable.
        """
        own = isinstance(body, Mapping) and set(body) in ({"jws"}, {"eip712"})
        key = idempotency_key or (None if own else secrets.token_hex(16))
        return await self.send("POST", path, body=msgspec.json.encode(body), idempotency_key=key)

    async def authorized(
        self, path: str, command_name: str, body: Mapping[str, Any], genesis: str, *, nonce: str | None = None
    ) -> httpx.Response:
        """POST a command of an `own_signature` route, signed inside too. `nonce` names the command."""
        return await self.command(path, authorize(self.signer.private, self.kid, genesis, command_name, body, nonce))

    async def query(
        self, path: str, params: Mapping[str, Any] | None = None, *, at_least: Mapping[str, int] | None = None
    ) -> httpx.Response:
        """GET a view, signed; `at_least` names positions the answer must reflect."""
        stated = ", ".join(f"{service}={position}" for service, position in (at_least or {}).items())
        return await self.send("GET", path, params=params, headers={"commons-at-least": stated} if stated else None)

    async def send(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> httpx.Response:
        """Send a signed request, again and again while the server says wait or cannot be reached."""
        give_up = time.monotonic() + self._patience_seconds
        wait = FIRST_WAIT_SECONDS
        while True:
            request = self._http.build_request(method, path, params=params, headers=headers, content=body)
            url = self._public_url + request.url.raw_path.decode().removeprefix(self._base_path)
            request.headers.update(self.signer.headers(method, url, body, idempotency_key=idempotency_key))
            try:
                response = await self._http.send(request)
            except httpx.TransportError:
                if time.monotonic() + wait > give_up:
                    raise
            else:
                if response.status_code not in WAIT_STATUS:
                    return response
                wait = max(wait, _stated_wait(response))
                if time.monotonic() + wait > give_up:
                    return response
            # A little disorder, so that a thousand clients do not come back in the same instant.
            await asyncio.sleep(wait * (1 + secrets.randbelow(250) / 1_000))
            wait = min(wait * 2, LONGEST_WAIT_SECONDS)


def _stated_wait(response: httpx.Response) -> float:
    stated = response.headers.get("retry-after", "")
    return float(stated) if stated.isdecimal() else 0.0
