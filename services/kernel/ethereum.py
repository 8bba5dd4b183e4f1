"""Ethereum accounts as keys: Keccak-256, EIP-55 addresses, and signatures of which each has one spelling only.

A signature is 65 bytes, r, s and v, as `0x` and 130 lower-case hex digits. s lies in the lower half of the group's
order (EIP-2) and v is 27 or 28: of the two signatures that verify for one key and digest, and the several spellings of
v, exactly one is taken, so nobody can make a second text out of a first one.
"""

from __future__ import annotations

import re
from typing import Final

import coincurve
from Crypto.Hash import keccak

from services.kernel.errors import AuthenticationFailed

ORDER: Final = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""The order of secp256k1's group (SEC 2, section 2.4.1)."""

ADDRESS_BYTES: Final = 20
NO_ADDRESS: Final = "0x" + "00" * ADDRESS_BYTES

_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}\Z")
_SIGNATURE: Final = re.compile(r"0x[0-9a-f]{130}\Z")
_FIRST_V: Final = 27


def keccak256(raw: bytes) -> bytes:
    """Return Keccak-256 as Ethereum uses it (not FIPS 202's SHA3-256)."""
    return keccak.new(digest_bits=256, data=raw).digest()


def checksum_address(raw: bytes) -> str:
    """Return the EIP-55 spelling of 20 address bytes."""
    assert len(raw) == ADDRESS_BYTES, len(raw)
    digits = raw.hex()
    marks = keccak256(digits.encode()).hex()
    return "0x" + "".join(digit.upper() if mark >= "8" else digit for digit, mark in zip(digits, marks, strict=False))


def is_address(text: str) -> bool:
    """Tell whether a text is an address in its EIP-55 spelling; all lower or all upper case is not."""
    return bool(_ADDRESS.match(text)) and checksum_address(bytes.fromhex(text[2:])) == text


def address_of(public: coincurve.PublicKey) -> str:
    """Return the address of a public key: the last 20 bytes of the Keccak of its two coordinates."""
    return checksum_address(keccak256(public.format(compressed=False)[1:])[-ADDRESS_BYTES:])


def recover(digest: bytes, signature: str) -> str:
    """Return the address whose key signed these 32 bytes; raises AuthenticationFailed for a signature out of form.

    Every well-formed signature recovers to some address: whoever calls this has to compare it.
    """
    raw = signature_bytes(signature)
    compact = raw[:64] + bytes([raw[64] - _FIRST_V])
    try:
        return address_of(coincurve.PublicKey.from_signature_and_message(compact, digest, hasher=None))
    except Exception as error:
        raise AuthenticationFailed("the wallet's signature does not verify") from error


def signature_bytes(text: str) -> bytes:
    """Return the 65 bytes of a signature's one spelling; raises AuthenticationFailed for any other."""
    if not _SIGNATURE.match(text):
        raise AuthenticationFailed("a wallet's signature is 0x and 130 lower-case hex digits (65 bytes)")
    raw = bytes.fromhex(text[2:])
    r, s, v = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:64], "big"), raw[64]
    if v not in {_FIRST_V, _FIRST_V + 1}:
        raise AuthenticationFailed("the last byte of a wallet's signature, v, is 27 or 28")
    if not 0 < r < ORDER or not 0 < s <= ORDER // 2:
        raise AuthenticationFailed("a wallet's signature has its s in the lower half of the order (EIP-2)")
    return raw


def sign_digest(private: coincurve.PrivateKey, digest: bytes) -> str:
    """Return the signature of 32 bytes in its one spelling (RFC 6979: the same every time, low s)."""
    raw = private.sign_recoverable(digest, hasher=None)
    return "0x" + (raw[:64] + bytes([raw[64] + _FIRST_V])).hex()


def personal_digest(text: str) -> bytes:
    """Return what a wallet signs for a text: EIP-191 version 0x45 (`personal_sign`)."""
    raw = text.encode()
    return keccak256(b"\x19Ethereum Signed Message:\n" + str(len(raw)).encode() + raw)
