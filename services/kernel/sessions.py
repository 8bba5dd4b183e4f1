"""Sessions of members who signed in: nonces we issued, and tokens of 15 minutes. No I/O, no clock, no chance.

A token is a compact JWS by the instance's key whose header names its own type, so that neither an acknowledgement nor
a command can be taken for a session, nor a session for them. A nonce carries its own expiry and a MAC, so every `http`
process knows those of every other without a table; that each is used once is the nonce port's business.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.kernel.directory import Directory
from services.kernel.errors import AuthenticationFailed
from services.kernel.jws import b64, raw_public, thumbprint, unb64
from services.kernel.siwe import NONCE_SECONDS

SESSION_SECONDS: Final = 900
TYPE: Final = "commons-session+jwt"
NONCE_CHANCE_BYTES: Final = 12

_MAC_BYTES: Final = 12
_TIME_DIGITS: Final = 10
_MOST: Final = 1_024
_NONCE: Final = re.compile(rf"([0-9a-f]{{{2 * NONCE_CHANCE_BYTES}}})([0-9a-f]{{{_TIME_DIGITS}}})([0-9a-f]{{24}})\Z")


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: str
    kid: str
    typ: str


class Session(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a token says: which member signed in with which wallet, from when to when (seconds), and its own id."""

    sub: str
    address: str
    iat: int
    exp: int
    jti: str


class NotInDirectory(AuthenticationFailed):
    """The session's wallet signs for nobody we know; it may only be too new for this process."""


@dataclass(frozen=True, slots=True)
class Sessions:
    """Issues and reads nonces and tokens with one instance's key."""

    private: Ed25519PrivateKey
    kid: str

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> Sessions:
        """Return the sessions of an instance's key."""
        return cls(private, thumbprint(raw_public(private)))

    def nonce(self, chance: bytes, now_ms: int) -> tuple[str, int]:
        """Return a nonce made of 12 random bytes, and when it ends (seconds)."""
        assert len(chance) == NONCE_CHANCE_BYTES, len(chance)
        ends = now_ms // 1_000 + NONCE_SECONDS
        body = f"{chance.hex()}{ends:0{_TIME_DIGITS}x}"
        return body + self._mac(body), ends

    def nonce_ends(self, nonce: str, now_ms: int) -> int:
        """Return when a nonce of ours ends (seconds); raises AuthenticationFailed for a foreign or an old one."""
        match = _NONCE.match(nonce)
        if match is None or not hmac.compare_digest(self._mac(match[1] + match[2]), match[3]):
            raise AuthenticationFailed("this nonce is none of ours: ask for one and sign again")
        ends = int(match[2], 16)
        if ends * 1_000 <= now_ms:
            raise AuthenticationFailed("the nonce has expired: ask for another one and sign again")
        return ends

    def issue(self, member: str, address: str, jti: str, now_ms: int, until_ms: int | None = None) -> tuple[str, int]:
        """Return a token and when it ends (seconds): after 15 minutes, or at `until_ms` where that is sooner."""
        now = now_ms // 1_000
        ends = now + SESSION_SECONDS if until_ms is None else min(now + SESSION_SECONDS, until_ms // 1_000)
        header = msgspec.json.encode(_Header("EdDSA", self.kid, TYPE))
        claims = msgspec.json.encode(Session(member, address, now, ends, jti))
        signed = f"{b64(header)}.{b64(claims)}"
        return f"{signed}.{b64(self.private.sign(signed.encode()))}", ends

    def read(self, token: str, now_ms: int) -> Session:
        """Return what a token of this instance says while it lasts; raises AuthenticationFailed."""
        if len(token) > _MOST:
            raise AuthenticationFailed("this is no session token")
        signed, _, signature = token.rpartition(".")
        head, _, claims = signed.partition(".")
        try:
            header = msgspec.json.decode(unb64(head), type=_Header)
            session = msgspec.json.decode(unb64(claims), type=Session)
            raw = unb64(signature)
        except (ValueError, msgspec.MsgspecError) as error:
            raise AuthenticationFailed("this is no session token") from error
        if header != _Header("EdDSA", self.kid, TYPE):
            raise AuthenticationFailed("this session token is not of this instance")
        try:
            self.private.public_key().verify(raw, signed.encode())
        except InvalidSignature as error:
            raise AuthenticationFailed("the session token's signature does not verify") from error
        if session.exp * 1_000 <= now_ms:
            raise AuthenticationFailed("the session has expired: sign in again")
        return session

    def _mac(self, text: str) -> str:
        key = hashlib.sha256(b"commons.sign-in-nonces" + self.private.private_bytes_raw()).digest()
        return hmac.digest(key, text.encode(), "sha256")[:_MAC_BYTES].hex()


def wallet_member(directory: Directory, address: str) -> str:
    """Return the member a wallet signs for; raises NotInDirectory, AuthenticationFailed for a wallet that is dead."""
    member = directory.wallets.get(address)
    if member is None and address in directory.dead_wallets:
        raise AuthenticationFailed("this wallet is dead: it was replaced or unlinked", address=address)
    if member is None:
        raise NotInDirectory("no member has this wallet", address=address)
    return member
