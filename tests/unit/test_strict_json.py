from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.kernel.errors import MalformedRequest
from services.kernel.strict_json import MAX_INTEGER, parse_json


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"null", None),
        (b' \t\r\n{"a" : [1, -2, true, false, "x"]}\n', {"a": [1, -2, True, False, "x"]}),
        (b'"\\ud83d\\ude00\\u00e9\\"\\\\\\/"', '\U0001f600é"\\/'),
        (b'"\\\\u0000"', "\\u0000"),
        (str(MAX_INTEGER).encode(), MAX_INTEGER),
        (str(-MAX_INTEGER).encode(), -MAX_INTEGER),
        (b"[" * 32 + b"]" * 32, None),
        ('"日本"'.encode(), "日本"),
        (b"{}", {}),
    ],
)
def test_plain_json_is_taken(raw: bytes, value: Any) -> None:
    parsed = parse_json(raw)
    assert value is None or parsed == value


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "not JSON"),
        (b"{'a':1}", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"01", "not JSON"),
        (b"+1", "not JSON"),
        (b"1 2", "not JSON"),
        (b"NaN", "not JSON"),
        (b"-Infinity", "not JSON"),
        (b"1.0", "no integer"),
        (b"-0.0", "no integer"),
        (b"1e2", "no integer"),
        (b"9007199254740992", "2^53"),
        (b"-9007199254740992", "2^53"),
        (b"1" * 100_000, "2^53"),
        (b'{"a":1,"a":1}', "'a' stands twice"),
        (b'{"b":{"a":1,"\\u0061":2}}', "'a' stands twice"),
        (b'"\x00"', "not JSON"),
        (b'"\n"', "not JSON"),
        (b'"\\n"', "U+000A"),
        (b'"\\u0000"', "U+0000 in /"),
        (b'{"a":["\\u0007"]}', "U+0007 in /a/0"),
        (b'{"\\u0000":1}', "U+0000"),
        (b'"\x7f"', "U+007F"),
        (b'"\xc2\x85"', "U+0085"),
        (b'"\\u0085"', "U+0085"),
        (b'"\\ud800"', "U+D800"),
        (b'"\\ude00\\ud83d"', "U+DE00"),
        (b'{"\\ud800":1}', "U+D800"),
        (b'"\xed\xa0\x80"', "UTF-8 at byte 1"),
        (b'"\xc0\x80"', "UTF-8"),
        (b"\xef\xbb\xbf1", "byte order mark"),
        (b"[" * 33 + b"]" * 33, "32 levels"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "32 levels"),
        (b"[" * 4_000_000, "32 levels"),
        (b"\x00", "not JSON"),
        ("1".encode("utf-16"), "UTF-8"),
    ],
)
def test_what_two_parsers_could_read_differently_is_refused(raw: bytes, told: str) -> None:
    with pytest.raises(MalformedRequest) as refused:
        parse_json(raw)
    assert told in refused.value.detail


texts = st.text(st.characters(exclude_categories=("Cc", "Cs")))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(values, st.booleans())
def test_every_value_without_floats_and_controls_comes_back_as_it_was(value: Any, ascii_only: bool) -> None:  # noqa: FBT001 - drawn
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@given(st.binary(max_size=60))
def test_any_bytes_are_either_json_or_refused(raw: bytes) -> None:
    try:
        parse_json(raw)
    except MalformedRequest:
        pass
    else:
        json.loads(raw)


def test_the_largest_bodies_are_read_whole() -> None:
    bulk = ["x" * 60_000] * 64
    objects = [{"a": "b", "c": index} for index in range(100_000)]
    assert parse_json(json.dumps(bulk).encode()) == bulk
    assert parse_json(json.dumps(objects).encode()) == objects


@pytest.mark.parametrize("raw", [b"[" * 60_000, b'{"a":' * 12_000, b'["' + b"x" * 50 + b'",' + b"[" * 60_000])
def test_deep_nesting_ends_no_process_even_where_a_library_raised_the_recursion_limit(raw: bytes) -> None:
    """`py_ecc`, which `eth-account` brings, sets the limit to 100,000 when it is imported."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        with pytest.raises(MalformedRequest, match="32 levels"):
            parse_json(raw)
        assert parse_json(b'["[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\\"[", {"a": ["]"]}]') == [
            "[" * 38 + '"[',
            {"a": ["]"]},
        ]
    finally:
        sys.setrecursionlimit(before)
