"""Establishes who asks: an RFC 9421 signature, an API key, or nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from infra.http.api_keys import api_key_owner
from infra.http.freshness import FreshDirectory
from infra.http.incoming import Incoming
from infra.http.signatures import Message, Signed, UnknownKey, verify_request
from services.kernel.directory import Directory
from services.kernel.errors import AuthenticationFailed
from services.kernel.nonces import Nonces


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks and by what means; `directory` is the one that said so."""

    actor: str | None
    means: Literal["signature", "api-key", "nobody"]
    directory: Directory
    signed: Signed | None = None


class Authentication:
    """Checks requests against the directory and the nonces."""

    def __init__(self, directory: FreshDirectory, nonces: Nonces, now_ms: Callable[[], int]) -> None:
        """Take plain parts; `now_ms` is the wall clock (milliseconds UTC)."""
        self._directory = directory
        self._nonces = nonces
        self._now_ms = now_ms

    async def identify(self, incoming: Incoming) -> Who:
        """Return who signed; a nonce is not taken yet. Raises AuthenticationFailed, StoreUnavailable."""
        headers = incoming.headers
        signs = "signature" in headers or "signature-input" in headers
        if signs and "authorization" in headers:
            raise AuthenticationFailed("send a signature or an API key, not both")
        if signs:
            return await self._signer(incoming)
        if "authorization" in headers:
            return await self._api_key(headers["authorization"])
        return Who(None, "nobody", self._directory.latest)

    async def take_nonce(self, who: Who) -> None:
        """Use the request's nonce up; raises AuthenticationFailed for a replay, StoreUnavailable."""
        signed = who.signed
        if signed and not await self._nonces.take(signed.kid, signed.nonce, signed.expires_ms):
            raise AuthenticationFailed("this request is a replay: its nonce was used before", nonce=signed.nonce)

    async def _signer(self, incoming: Incoming) -> Who:
        directory = await self._directory.recent()
        try:
            signed = self._verify(incoming, directory)
        except UnknownKey:
            directory = await self._directory.newest()
            signed = self._verify(incoming, directory)
        return Who(directory.keys[signed.kid].subject, "signature", directory, signed)

    async def _api_key(self, authorization: str) -> Who:
        directory = await self._directory.recent()
        try:
            owner = api_key_owner(authorization, directory, self._now_ms())
        except UnknownKey:
            directory = await self._directory.newest()
            owner = api_key_owner(authorization, directory, self._now_ms())
        return Who(owner, "api-key", directory)

    def _verify(self, incoming: Incoming, directory: Directory) -> Signed:
        message = Message(incoming.method, incoming.target_uri, incoming.headers)
        return verify_request(message, incoming.body, lambda kid: signing_key(directory, kid), self._now_ms())


def signing_key(directory: Directory, kid: str) -> Ed25519PublicKey:
    """Return the living key of that id; raises UnknownKey, or AuthenticationFailed for one that is dead."""
    key = directory.keys.get(kid)
    if key is not None:
        return Ed25519PublicKey.from_public_bytes(key.raw)
    if kid in directory.dead_keys:
        raise AuthenticationFailed("this key is dead: it was rotated or its node retired", kid=kid[:64])
    raise UnknownKey("no member or node has this key", kid=kid[:64])
