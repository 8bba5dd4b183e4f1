"""The Merkle trees of RFC 6962 section 2.1: the root over a list, and the audit path from one of its leaves to it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash a leaf has in the tree: SHA-256 over 0x00 and its bytes."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node: SHA-256 over 0x01 and both its children."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the tree hash of a list of inputs: SHA-256 of nothing when there are none."""
    if not leaves:
        return hashlib.sha256().digest()
    return root_over([leaf_hash(leaf) for leaf in leaves])


def root_over(hashes: Sequence[bytes]) -> bytes:
    """Return the root over the hashes of neighbours in a tree; asserts that there is one at least."""
    assert hashes, "a tree has a leaf"
    while len(hashes) > 1:
        hashes = level_above(hashes)
    return hashes[0]


def level_above(hashes: Sequence[bytes]) -> list[bytes]:
    """Return the parents of neighbours; a last one without a partner rises as it is.

    That makes the tree of RFC 6962, whose left part is the largest power of two smaller than the whole: at each level
    only the last node may stand over fewer leaves than its neighbours.
    """
    above = [node_hash(hashes[i], hashes[i + 1]) for i in range(0, len(hashes) - 1, 2)]
    return [*above, hashes[-1]] if len(hashes) % 2 else above


def siblings(index: int, count: int) -> Iterator[int | None]:
    """Yield, from a level of `count` nodes up to the root, the place of the partner of the node over `index`.

    None stands for a level at which that node has no partner and rises as it is.
    """
    while count > 1:
        yield index ^ 1 if index ^ 1 < count else None
        index, count = index // 2, (count + 1) // 2


def audit_path(hashes: Sequence[bytes], index: int) -> list[bytes]:
    """Return the partners' hashes from the leaf at `index` up to the root over `hashes` (RFC 6962 section 2.1.1)."""
    path = []
    for place in siblings(index, len(hashes)):
        if place is not None:
            path.append(hashes[place])
        hashes = level_above(hashes)
    return path


def root_by_path(found: bytes, index: int, count: int, path: Sequence[bytes]) -> bytes | None:
    """Return the root that a leaf's hash and its audit path give in a tree of `count` leaves.

    None where no such path exists: the index lies outside the tree, or the path is too short or too long for it.
    """
    if not 0 <= index < count:
        return None
    rest = iter(path)
    for place in siblings(index, count):
        if place is not None:
            partner = next(rest, None)
            if partner is None:
                return None
            found = node_hash(partner, found) if place < index else node_hash(found, partner)
        index //= 2
    return found if next(rest, None) is None else None
