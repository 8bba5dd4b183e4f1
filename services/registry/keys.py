"""What a public key must be before the registry takes it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Final

from events.registry_terms import PublicKey
from services.kernel.directory import Directory
from services.kernel.errors import InvalidField
from services.kernel.ethereum import is_address
from services.registry.errors import KeyInUse

_SMALL_ORDER: Final = frozenset(
    {
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    }
)
"""Encodings of points of small order, sign bit cleared: signatures under them can be made by anyone."""


def key_problem(key: PublicKey) -> str | None:
    """Tell what is wrong with a key, or None: canonical base64url of 32 bytes, RFC 7638 kid, no small order."""
    raw = _raw(key.x)
    if raw is None:
        return "x is not the canonical base64url, without padding, of 32 bytes"
    canonical = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": key.x}, separators=(",", ":"))
    if key.kid != _text(hashlib.sha256(canonical.encode()).digest()):
        return "kid is not the RFC 7638 thumbprint of x"
    if (raw[:31] + bytes([raw[31] & 0x7F])).hex() in _SMALL_ORDER:
        return "x is a point of small order, which anyone can sign for"
    return None


def fresh_key(key: PublicKey, state: Directory) -> bytes:
    """Return the raw bytes of a key nobody has or had; raises InvalidField, KeyInUse."""
    problem = key_problem(key)
    if problem is not None:
        raise InvalidField(f"key: {problem}", field="key")
    if key.kid in state.keys or key.kid in state.dead_keys:
        raise KeyInUse("this key is or was somebody's; make a new one", kid=key.kid)
    raw = _raw(key.x)
    assert raw is not None
    return raw


def fresh_wallet(address: str, state: Directory) -> bytes:
    """Return the 20 bytes of an address nobody has or had; raises InvalidField, KeyInUse."""
    if not is_address(address):
        raise InvalidField("a wallet's address is 0x and 40 hex digits in EIP-55 spelling", field="address")
    if address in state.wallets or address in state.dead_wallets:
        raise KeyInUse("this wallet is or was somebody's; take a new one", address=address)
    return bytes.fromhex(address[2:])


def possession_payload(genesis_sha256: str, subject: str, old_kid: str, new_kid: str) -> bytes:
    """Return the bytes a new key signs to show that somebody holds it (see the fact `KeyRotated`)."""
    statement = {"possession": new_kid, "replaces": old_kid, "subject": subject, "genesis": genesis_sha256}
    return json.dumps(statement, separators=(",", ":")).encode()


def _raw(text: str) -> bytes | None:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == 32 and _text(raw) == text else None  # noqa: PLR2004 - an Ed25519 public key


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
