"""Compact JWS (RFC 7515) with EdDSA over Ed25519 (RFC 8037), header exactly {"alg":"EdDSA","kid":...}."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from events.registry_terms import PublicKey
from services.kernel.errors import AuthenticationFailed


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    alg: str
    kid: str


@dataclass(frozen=True, slots=True)
class Jws:
    """A parsed JWS whose signature has not been checked yet."""

    text: str
    kid: str
    payload: bytes
    signature: bytes

    def verify(self, raw_key: bytes) -> None:
        """Raise AuthenticationFailed unless the 32-byte key signed this."""
        signed = self.text.rpartition(".")[0].encode()
        try:
            Ed25519PublicKey.from_public_bytes(raw_key).verify(self.signature, signed)
        except InvalidSignature as error:
            raise AuthenticationFailed("the JWS signature does not verify", kid=self.kid) from error


def b64(raw: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """Return the bytes of canonical base64url without padding; raises ValueError for any other spelling."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise ValueError(f"not base64url: {error}") from error
    if b64(raw) != text:
        raise ValueError("not canonical base64url")
    return raw


def thumbprint(raw_key: bytes) -> str:
    """Return the RFC 7638 thumbprint of an Ed25519 public key: its `kid`."""
    canonical = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": b64(raw_key)}, separators=(",", ":"))
    return b64(hashlib.sha256(canonical.encode()).digest())


def public_key(raw_key: bytes) -> PublicKey:
    """Return the published form of a 32-byte Ed25519 public key."""
    return PublicKey(thumbprint(raw_key), b64(raw_key))


def raw_public(private: Ed25519PrivateKey) -> bytes:
    """Return the 32 public bytes of a private key."""
    return private.public_key().public_bytes_raw()


def sign_jws(private: Ed25519PrivateKey, kid: str, payload: bytes) -> str:
    """Return the compact JWS of `payload`."""
    header = msgspec.json.encode(_Header("EdDSA", kid))
    signed = f"{b64(header)}.{b64(payload)}".encode()
    return f"{signed.decode()}.{b64(private.sign(signed))}"


def parse_jws(text: str) -> Jws:
    """Return the parts of a compact JWS; raises AuthenticationFailed unless it has exactly our header and form."""
    parts = text.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, payload, signature
        raise AuthenticationFailed("a compact JWS has three parts")
    try:
        header = msgspec.json.decode(unb64(parts[0]), type=_Header)
        payload, signature = unb64(parts[1]), unb64(parts[2])
    except (ValueError, msgspec.MsgspecError) as error:
        raise AuthenticationFailed(f"the JWS does not parse: {error}") from error
    if header.alg != "EdDSA":
        raise AuthenticationFailed("the JWS algorithm must be EdDSA", alg=header.alg)
    return Jws(text, header.kid, payload, signature)
