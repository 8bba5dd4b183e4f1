"""Values every fact is made of: identifiers, amounts, shares of time, fixed-point numbers.

Amounts and counts that may pass 2^53 are integers in memory and decimal strings on the wire (DESIGN 2): other
languages read JSON numbers as doubles. Nothing here, and nothing that uses it, knows a float.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

INT64_MAX: Final = 2**63 - 1

COMPUTE_DECIMALS: Final = 6
"""`$COMPUTE` has six decimals: 1 COMPUTE = 1,000,000 base units."""

PPM: Final = 1_000_000
"""Parts per million: shares of a distribution, reliability (6 decimals)."""

PF_UNIT: Final = 10_000
"""Performance factors have 4 decimals."""

MILLI_MS_PER_GPU_HOUR: Final = 1_000 * 3_600_000
"""share_milli x milliseconds in one hour of one whole device."""

DAY_MS: Final = 86_400_000
HOUR_MS: Final = 3_600_000

_AMOUNT: Final = re.compile(r"(?:0|-?[1-9][0-9]{0,18})\Z")
_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?\Z")
_IDENTIFIER: Final = re.compile(r"[0-9a-f]{32}\Z")


class ValueRefused(ValueError):
    """A text is not the value it should be; `args[0]` says what would be."""


def parse_units(text: str) -> int:
    """Return the integer of a canonical decimal string (no plus sign, no leading zero, within int64).

    Raises ValueRefused for anything else, so that one amount has one spelling.
    """
    if not _AMOUNT.match(text):
        raise ValueRefused(f"{text[:40]!r} is not a canonical decimal integer")
    value = int(text)
    if not -INT64_MAX <= value <= INT64_MAX:
        raise ValueRefused(f"{text} does not fit in 64 bits")
    return value


def units_text(value: int) -> str:
    """Return the wire form of an integer amount; asserts that it fits in int64."""
    assert -INT64_MAX <= value <= INT64_MAX, value
    return str(value)


def identifier(domain: str, *parts: bytes | str) -> str:
    """Return 32 hex digits: the first 16 bytes of SHA-256 over length-prefixed domain and parts.

    Two parties that know the same parts derive the same id; no one can choose another's.
    """
    digest = hashlib.sha256()
    for part in (domain, *parts):
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "big"))
        digest.update(raw)
    return digest.hexdigest()[:32]


def member_id(public_key: bytes) -> str:
    """Return `member/<32 hex>` of a member's first key; it stays when keys rotate.

    The key is an Ed25519 public key (32 raw bytes), or a wallet's address (20 raw bytes).
    """
    return f"member/{identifier('commons.member', public_key)}"


def node_id(public_key: bytes) -> str:
    """Return `node/<32 hex>` of a node's first Ed25519 public key (32 raw bytes)."""
    return f"node/{identifier('commons.node', public_key)}"


def is_reference(text: str, kind: str) -> bool:
    """Tell whether `text` is `<kind>/<32 hex>`, e.g. `node/7c1e...`."""
    prefix, _, rest = text.partition("/")
    return prefix == kind and bool(_IDENTIFIER.match(rest))


def is_slug(text: str) -> bool:
    """Tell whether `text` is a short lower-case name (letters, digits, dot, dash; 1..64)."""
    return bool(_SLUG.match(text))


def round_half_even(numerator: int, denominator: int) -> int:
    """Return numerator/denominator rounded to the nearest integer, ties to even; denominator > 0."""
    quotient, remainder = divmod(numerator, denominator)
    twice = 2 * remainder
    if twice > denominator or (twice == denominator and quotient & 1):
        return quotient + 1
    return quotient


def verified_milli_gpu_seconds(share_milli_ms: int) -> int:
    """Return counted share x time as whole milli-GPU-seconds: floor(share_milli x ms / 1000), once, at the edge."""
    return share_milli_ms // 1_000
