"""Sealed fields: what opens them, what does not, and why one sealed leaf never opens to two texts."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from events.registry import ProfileSealed
from events.sealing import BLOCK_BYTES, Place, SealRefused, commitment, open_text, seal_text

KEY, OTHER = hashlib.sha256(b"ada").digest(), hashlib.sha256(b"ben").digest()
NONCE = bytes(range(12))
PLACE = Place(ProfileSealed.TYPE, "name", "member/ada")


def raw_of(sealed: str) -> bytes:
    return base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))


def text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@given(text=st.text(max_size=300), key=st.binary(min_size=32, max_size=32), nonce=st.binary(min_size=12, max_size=12))
def test_what_was_sealed_opens_to_the_same_text(text: str, key: bytes, nonce: bytes) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    sealed = seal_text(key, PLACE, text, nonce)
    assert open_text(key, PLACE, sealed) == text
    assert len(raw_of(sealed)) == 1 + 12 + 32 + (len(text.encode()) // BLOCK_BYTES + 1) * BLOCK_BYTES + 16


def test_the_layout_is_version_nonce_commitment_and_ciphertext() -> None:
    raw = raw_of(seal_text(KEY, PLACE, "Ada Lovelace", NONCE))
    assert raw[:1] == b"\x01"
    assert raw[1:13] == NONCE
    assert raw[13:45] == hashlib.sha256(b"commons.sealed-field.v1\0" + KEY + NONCE).digest()
    inside = AESGCM(KEY).decrypt(NONCE, raw[45:], PLACE.bound())
    assert inside == b"Ada Lovelace\x80".ljust(64, b"\0")


def test_another_subjects_key_does_not_open_it() -> None:
    with pytest.raises(SealRefused, match="another key"):
        open_text(OTHER, PLACE, seal_text(KEY, PLACE, "Ada", NONCE))


@pytest.mark.parametrize(
    "place",
    [
        Place(ProfileSealed.TYPE, "legal_name", "member/ada"),
        Place(ProfileSealed.TYPE, "name", "member/ben"),
        Place("registry.profile-sealed.v2", "name", "member/ada"),
        Place(ProfileSealed.TYPE + "n", "ame", "member/ada"),
    ],
)
def test_a_sealed_text_opens_in_no_other_place(place: Place) -> None:
    with pytest.raises(SealRefused, match="another place"):
        open_text(KEY, place, seal_text(KEY, PLACE, "Ada", NONCE))


def test_one_flipped_bit_anywhere_is_refused() -> None:
    raw = raw_of(seal_text(KEY, PLACE, "Ada Lovelace", NONCE))
    for index in range(len(raw)):
        altered = raw[:index] + bytes([raw[index] ^ 1]) + raw[index + 1 :]
        with pytest.raises(SealRefused):
            open_text(KEY, PLACE, text_of(altered))


@pytest.mark.parametrize("sealed", ["", "A", "not base64!", "====", text_of(bytes(60)), "A" * 10_000 + "="])
def test_what_is_no_sealed_text_is_refused(sealed: str) -> None:
    with pytest.raises(SealRefused):
        open_text(KEY, PLACE, sealed)


def test_one_sealed_text_has_one_spelling() -> None:
    sealed = seal_text(KEY, PLACE, "Ada", NONCE)
    assert len(sealed) % 4 == 3, "this length has two spare bits, which another spelling could set"
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = sealed[:-1] + last[last.index(sealed[-1]) ^ 1]
    assert raw_of(other) == raw_of(sealed)
    for spelling in (other, sealed + "="):
        with pytest.raises(SealRefused):
            open_text(KEY, PLACE, spelling)


# --- the attack on AES-GCM's missing commitment ------------------------------------------------------------------
#
# Grubbs, Lu, Ristenpart, "Message Franking via Committing Authenticated Encryption" (CRYPTO 2017), and Dodis et al.,
# "Fast Message Franking" (CRYPTO 2018): GHASH is linear, so one free block of ciphertext lets two keys share a tag.

_R = 0xE1 << 120


def multiply(one: int, two: int) -> int:
    """Multiply in GF(2^128) as GCM writes it (SP 800-38D, 6.3): the first bit is the lowest power."""
    product, shifted = 0, two
    for bit in range(127, -1, -1):
        if one >> bit & 1:
            product ^= shifted
        shifted = shifted >> 1 ^ _R if shifted & 1 else shifted >> 1
    return product


def power(base: int, exponent: int) -> int:
    result = 1 << 127
    while exponent:
        if exponent & 1:
            result = multiply(result, base)
        base, exponent = multiply(base, base), exponent >> 1
    return result


def block(key: bytes, raw: bytes) -> int:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return int.from_bytes(encryptor.update(raw), "big")


def ghash(hash_key: int, blocks: list[int]) -> int:
    state = 0
    for each in blocks:
        state = multiply(state ^ each, hash_key)
    return state


def ambiguous(first: bytes, second: bytes, nonce: bytes, bound: bytes, blocks: int) -> bytes:
    """Return ciphertext and tag that AES-GCM opens under both keys: its last block makes the two tags equal."""
    padded = bound + bytes(-len(bound) % 16)
    head = [int.from_bytes(padded[at : at + 16], "big") for at in range(0, len(padded), 16)]
    chosen = [int.from_bytes(hashlib.sha256(bytes([at])).digest()[:16], "big") for at in range(blocks - 1)]
    length = (len(bound) * 8) << 64 | blocks * 128
    wanted, square = 0, 0
    for key in (first, second):
        hash_key = block(key, bytes(16))
        wanted ^= ghash(hash_key, [*head, *chosen, 0, length]) ^ block(key, nonce + b"\0\0\0\1")
        square ^= multiply(hash_key, hash_key)
    last = multiply(wanted, power(square, 2**128 - 2))
    hash_key = block(first, bytes(16))
    tag = ghash(hash_key, [*head, *chosen, last, length]) ^ block(first, nonce + b"\0\0\0\1")
    return b"".join(each.to_bytes(16, "big") for each in [*chosen, last, tag])


def test_aes_gcm_alone_opens_one_ciphertext_to_two_texts() -> None:
    """The premise: without the commitment the attack works, so the next test is not empty."""
    made = ambiguous(KEY, OTHER, NONCE, PLACE.bound(), 4)
    one = AESGCM(KEY).decrypt(NONCE, made, PLACE.bound())
    two = AESGCM(OTHER).decrypt(NONCE, made, PLACE.bound())
    assert one != two


@pytest.mark.parametrize("committed", [KEY, OTHER], ids=["to the first key", "to the second key"])
def test_a_sealed_leaf_cannot_be_opened_to_two_texts(committed: bytes) -> None:
    made = ambiguous(KEY, OTHER, NONCE, PLACE.bound(), 4)
    sealed = text_of(b"\x01" + NONCE + commitment(committed, NONCE) + made)
    loser = OTHER if committed == KEY else KEY
    with pytest.raises(SealRefused, match="another key"):
        open_text(loser, PLACE, sealed)
    with pytest.raises(SealRefused, match="padding"):
        open_text(committed, PLACE, sealed)  # what the attack makes of the last block is no padding of ours


def test_no_commitment_is_right_for_two_keys() -> None:
    made = ambiguous(KEY, OTHER, NONCE, PLACE.bound(), 4)
    both = bytes(a ^ b for a, b in zip(commitment(KEY, NONCE), commitment(OTHER, NONCE), strict=True))
    for head in (both, commitment(KEY, NONCE)[:16] + commitment(OTHER, NONCE)[16:], bytes(32)):
        for key in (KEY, OTHER):
            with pytest.raises(SealRefused, match="another key"):
                open_text(key, PLACE, text_of(b"\x01" + NONCE + head + made))
