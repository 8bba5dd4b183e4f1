"""Audit paths against the definition of RFC 6962, written down naively."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metering.merkle import audit_path, leaf_hash, merkle_root, root_by_path


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1."""
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def naive_path(leaves: list[bytes], index: int) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    if index < split:
        return [*naive_path(leaves[:split], index), naive_root(leaves[split:])]
    return [*naive_path(leaves[split:], index - split), naive_root(leaves[:split])]


def leaves_of(count: int) -> list[bytes]:
    return [f"leaf {i}".encode() for i in range(count)]


@pytest.mark.parametrize("count", range(1, 71))
def test_every_path_of_every_size_is_the_naive_one_and_leads_to_the_root(count: int) -> None:
    leaves = leaves_of(count)
    hashes, root = [leaf_hash(leaf) for leaf in leaves], naive_root(leaves)
    assert merkle_root(leaves) == root
    for index in range(count):
        path = audit_path(hashes, index)
        assert path == naive_path(leaves, index)
        assert root_by_path(hashes[index], index, count, path) == root


@given(st.data(), st.integers(1, 70))
def test_no_other_leaf_place_size_or_path_leads_to_the_root(data: st.DataObject, count: int) -> None:
    leaves = leaves_of(count)
    hashes, root = [leaf_hash(leaf) for leaf in leaves], merkle_root(leaves)
    index = data.draw(st.integers(0, count - 1))
    path = audit_path(hashes, index)
    found, place = data.draw(st.sampled_from([*hashes, bytes(32)])), data.draw(st.integers(-1, count))
    changed = list(path)
    change = data.draw(st.sampled_from(["none", "drop", "add", "flip", "swap"]))
    if change == "drop" and changed:
        changed.pop(data.draw(st.integers(0, len(changed) - 1)))
    elif change == "add":
        changed.insert(data.draw(st.integers(0, len(changed))), data.draw(st.sampled_from([*hashes, *path, root])))
    elif change == "flip" and changed:
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at] = bytes([changed[at][0] ^ 1]) + changed[at][1:]
    elif change == "swap":
        changed.reverse()
    honest = (found, place, changed) == (hashes[index], index, path) or (
        0 <= place < count and (found, changed) == (hashes[place], audit_path(hashes, place))
    )
    assert (root_by_path(found, place, count, changed) == root) is honest


def test_a_leaf_s_path_is_none_of_an_inner_node_s() -> None:
    """Leaves and inner nodes are hashed apart, so an inner node passes for no leaf (RFC 6962, section 2.1)."""
    leaves = leaves_of(4)
    hashes = [leaf_hash(leaf) for leaf in leaves]
    forged = leaf_hash(hashes[0] + hashes[1])
    assert root_by_path(forged, 0, 2, audit_path(hashes, 0)[1:]) != merkle_root(leaves)
