"""Sealed fields: personal data that facts carry and only a key outside the log can open (ETHICS "Privacy of the log").

A sealed field is the canonical base64url text, without padding, of

    version (1 byte) || nonce (12) || commitment (32) || ciphertext with tag (AES-256-GCM, NIST SP 800-38D)

The commitment is SHA-256 over a label, the key and the nonce, compared before anything is decrypted: AES-GCM alone is
not committing (one ciphertext can be made that opens under two keys, to two texts), with it a second key would be a
collision of SHA-256. The associated data binds fact type, field and subject, so a sealed text opens nowhere else.
Texts are padded to a multiple of 64 bytes (ISO/IEC 7816-4): the length of a name says little about it.

Erasing means destroying the key. The leaf hashes the sealed bytes, so every proof still verifies afterwards.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

VERSION: Final = 1
KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12
COMMITMENT_BYTES: Final = 32
TAG_BYTES: Final = 16
BLOCK_BYTES: Final = 64
"""What texts are padded to."""

_HEAD: Final = 1 + NONCE_BYTES + COMMITMENT_BYTES
_LABEL: Final = b"commons.sealed-field.v1\0"
_MARK: Final = b"\x80"


class SealRefused(Exception):
    """A sealed text does not open with this key in this place; `args[0]` says what was seen, never what is inside."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed text belongs: the published fact type, the field in it, and the subject, `member/<id>`."""

    fact: str
    field: str
    subject: str

    def bound(self) -> bytes:
        """Return the associated data: label and parts, each behind its length."""
        parts = (self.fact.encode(), self.field.encode(), self.subject.encode())
        return _LABEL + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def commitment(key: bytes, nonce: bytes) -> bytes:
    """Return the 32 bytes that bind a sealed text to one key: SHA-256 over label, key and nonce (its salt)."""
    assert len(key) == KEY_BYTES, "a subject's key has 32 bytes"
    assert len(nonce) == NONCE_BYTES, "a nonce has 12 bytes"
    return hashlib.sha256(_LABEL + key + nonce).digest()


def seal_text(key: bytes, place: Place, text: str, nonce: bytes) -> str:
    """Return the sealed text; `nonce` is 12 fresh random bytes, never used twice with one key."""
    inside = text.encode() + _MARK
    inside += bytes(-len(inside) % BLOCK_BYTES)
    ciphertext = AESGCM(key).encrypt(nonce, inside, place.bound())
    return _text(bytes([VERSION]) + nonce + commitment(key, nonce) + ciphertext)


def open_text(key: bytes, place: Place, sealed: str) -> str:
    """Return what was sealed. Raises SealRefused for another key, place, version or a text that was altered."""
    raw = _bytes(sealed)
    if raw[0] != VERSION:
        raise SealRefused(f"sealed by version {raw[0]}, this software knows {VERSION}")
    nonce, committed = raw[1 : 1 + NONCE_BYTES], raw[1 + NONCE_BYTES : _HEAD]
    if not hmac.compare_digest(commitment(key, nonce), committed):
        raise SealRefused("the commitment is to another key")
    try:
        inside = AESGCM(key).decrypt(nonce, raw[_HEAD:], place.bound())
    except InvalidTag:
        raise SealRefused("altered, or sealed for another place") from None
    text, mark = inside.rstrip(b"\0")[:-1], inside.rstrip(b"\0")[-1:]
    if mark != _MARK or len(inside) % BLOCK_BYTES:
        raise SealRefused("the padding is not ours")
    try:
        return text.decode()
    except UnicodeDecodeError:
        raise SealRefused("what is inside is no text") from None


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(sealed: str) -> bytes:
    """Return the bytes of a sealed text; one byte string has one spelling."""
    try:
        raw = base64.b64decode(sealed + "=" * (-len(sealed) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise SealRefused("not base64url") from None
    if len(raw) < _HEAD + TAG_BYTES + BLOCK_BYTES or _text(raw) != sealed:
        raise SealRefused("not a sealed text: too short, or another spelling of one")
    return raw
