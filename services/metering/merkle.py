"""The Merkle root of RFC 6962 section 2.1 over an epoch's pages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the tree hash of a list of inputs: SHA-256 of nothing when there are none."""
    if not leaves:
        return hashlib.sha256().digest()
    return _root([hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves])


def _root(hashes: Sequence[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    # The left part is the largest power of two smaller than the whole.
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + _root(hashes[:split]) + _root(hashes[split:])).digest()
