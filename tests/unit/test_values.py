"""Values: one spelling per amount, ids anyone can derive, exact rounding."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import pytest

from events.values import (
    INT64_MAX,
    ValueRefused,
    identifier,
    is_reference,
    is_slug,
    member_id,
    node_id,
    parse_units,
    round_half_even,
    units_text,
    verified_milli_gpu_seconds,
)


@pytest.mark.parametrize("value", [0, 1, -1, 10, 999_999, 2**53 + 1, INT64_MAX, -INT64_MAX])
def test_an_amount_reads_back_as_it_was_written(value: int) -> None:
    assert parse_units(units_text(value)) == value


@pytest.mark.parametrize(
    "text",
    ["", "+1", "01", "-0", "00", "1.0", "1e6", " 1", "1 ", "1\n", "1_000", "0x10", "٣", "abc", "--1", "NaN", "9" * 30],
)
def test_an_amount_with_another_spelling_is_refused(text: str) -> None:
    with pytest.raises(ValueRefused, match="canonical decimal integer"):
        parse_units(text)


@pytest.mark.parametrize("text", [str(INT64_MAX + 1), str(-INT64_MAX - 1), "9" * 19])
def test_an_amount_that_does_not_fit_in_64_bits_is_refused(text: str) -> None:
    with pytest.raises(ValueRefused, match="64 bits"):
        parse_units(text)


@pytest.mark.parametrize("value", [INT64_MAX + 1, -INT64_MAX - 1])
def test_writing_an_amount_that_overflows_is_a_programmers_error(value: int) -> None:
    with pytest.raises(AssertionError):
        units_text(value)


def test_an_identifier_is_the_hash_of_its_length_prefixed_parts() -> None:
    parts = b"\0" * 7 + b"\x06domain"[:7] + b"\0" * 7 + b"\x01a"
    assert identifier("domain", "a") == hashlib.sha256(parts).hexdigest()[:32]


def test_parts_cannot_be_shifted_into_one_another() -> None:
    assert identifier("d", "ab", "c") != identifier("d", "a", "bc")
    assert identifier("d", "ab") != identifier("da", "b")
    assert identifier("d", "a", "") != identifier("d", "a")


def test_a_text_and_its_bytes_name_the_same() -> None:
    assert identifier("d", "é") == identifier("d", "é".encode())


def test_a_member_and_a_node_of_one_key_have_different_ids() -> None:
    key = bytes(32)
    assert is_reference(member_id(key), "member")
    assert is_reference(node_id(key), "node")
    assert member_id(key).partition("/")[2] != node_id(key).partition("/")[2]


@pytest.mark.parametrize(
    "text",
    ["node/", "node/7c1e", "node/" + "G" * 32, "node/" + "A" * 32, "member/" + "0" * 32, "0" * 32, "node/" + "0" * 33],
)
def test_what_only_looks_like_a_reference_is_none(text: str) -> None:
    assert not is_reference(text, "node")


@pytest.mark.parametrize("text", ["a", "protein-folding", "v1.2", "0", "a" * 64])
def test_a_short_lower_case_name_is_a_slug(text: str) -> None:
    assert is_slug(text)


@pytest.mark.parametrize("text", ["", "-a", "a-", "A", "a b", "a/b", "ä", "a" * 65, "a\n", ".a"])
def test_other_names_are_no_slug(text: str) -> None:
    assert not is_slug(text)


@pytest.mark.parametrize(
    ("numerator", "denominator", "wanted"),
    [(1, 2, 0), (3, 2, 2), (5, 2, 2), (7, 2, 4), (-1, 2, 0), (-3, 2, -2), (1, 3, 0), (2, 3, 1), (0, 7, 0), (10, 5, 2)],
)
def test_ties_go_to_the_even_neighbour(numerator: int, denominator: int, wanted: int) -> None:
    assert round_half_even(numerator, denominator) == wanted


def test_rounding_agrees_with_pythons_exact_fractions() -> None:
    for denominator in range(1, 30):
        for numerator in range(-100, 100):
            assert round_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


def test_shares_of_time_become_whole_milli_gpu_seconds_once() -> None:
    assert verified_milli_gpu_seconds(1_000 * 3_600_000) == 3_600_000
    assert verified_milli_gpu_seconds(1_999) == 1
    assert verified_milli_gpu_seconds(999) == 0
