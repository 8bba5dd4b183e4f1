"""Establishes who asks: an RFC 9421 signature, a session token, an API key, or nobody."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from infra.http.api_keys import api_key_owner, bearer_token, is_api_key
from infra.http.freshness import FreshDirectory
from infra.http.incoming import Incoming
from infra.http.signatures import Message, Signed, UnknownKey, verify_request
from services.kernel.directory import Directory
from services.kernel.errors import AuthenticationFailed
from services.kernel.nonces import Nonces
from services.kernel.sessions import NotInDirectory, Session, Sessions, wallet_member

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks and by what means; `directory` is the one that said so."""

    actor: str | None
    means: Literal["signature", "session", "api-key", "nobody"]
    directory: Directory
    signed: Signed | None = None
    session: Session | None = None

    @property
    def kid(self) -> str | None:
        """What makes this one the actor: the key that signed, or the wallet that signed in."""
        if self.signed is not None:
            return self.signed.kid
        return self.session.address if self.session is not None else None


class Authentication:
    """Checks requests against the directory and the nonces."""

    def __init__(
        self, directory: FreshDirectory, nonces: Nonces, sessions: Sessions, now_ms: Callable[[], int]
    ) -> None:
        """Take plain parts; `now_ms` is the wall clock (milliseconds UTC)."""
        self._directory = directory
        self._nonces = nonces
        self._sessions = sessions
        self._now_ms = now_ms

    async def identify(self, incoming: Incoming) -> Who:
        """Return who signed; a nonce is not taken yet. Raises AuthenticationFailed, StoreUnavailable."""
        headers = incoming.headers
        signs = "signature" in headers or "signature-input" in headers
        if signs and "authorization" in headers:
            raise AuthenticationFailed("send a signature or a bearer token (session, API key), not both")
        if signs:
            return await self._signer(incoming)
        if "authorization" in headers:
            token = bearer_token(headers["authorization"])
            return await (self._api_key(token) if is_api_key(token) else self._session(token))
        return Who(None, "nobody", self._directory.latest)

    async def take_nonce(self, who: Who) -> None:
        """Use the request's nonce up; raises AuthenticationFailed for a replay, StoreUnavailable."""
        signed = who.signed
        if signed and not await self._nonces.take(signed.kid, signed.nonce, signed.expires_ms):
            raise AuthenticationFailed("this request is a replay: its nonce was used before", nonce=signed.nonce)

    async def asked(self, question: Callable[[Directory], T]) -> tuple[T, Directory]:
        """Return what a recent directory answers, or the newest where that one has not heard of the key."""
        directory = await self._directory.recent()
        try:
            return question(directory), directory
        except (UnknownKey, NotInDirectory):
            directory = await self._directory.newest()
            return question(directory), directory

    async def _signer(self, incoming: Incoming) -> Who:
        signed, directory = await self.asked(lambda known: self._verify(incoming, known))
        return Who(directory.keys[signed.kid].subject, "signature", directory, signed)

    async def _api_key(self, token: str) -> Who:
        owner, directory = await self.asked(lambda known: api_key_owner(token, known, self._now_ms()))
        return Who(owner, "api-key", directory)

    async def _session(self, token: str) -> Who:
        """Judge the wallet anew at every request: a session dies with it."""
        session = self._sessions.read(token, self._now_ms())
        member, directory = await self.asked(lambda known: wallet_member(known, session.address))
        if member != session.sub:
            raise AuthenticationFailed("the session's wallet signs for another member now")
        return Who(member, "session", directory, session=session)

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
