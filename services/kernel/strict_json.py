"""Strict JSON, before any model sees it (DESIGN 2): what two parsers could read differently is refused.

msgspec and pydantic silently keep the last of two equal keys, take floats where money stands, and let control
characters through; signed bytes must mean one thing only. Numbers are integers within +-(2^53 - 1), the range that
every language reads exactly; larger amounts are decimal strings.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, Final, NoReturn

from services.kernel.errors import MalformedRequest

MAX_INTEGER: Final = 2**53 - 1
MAX_DEPTH: Final = 32

_BOM: Final = b"\xef\xbb\xbf"
_RAW_CONTROL: Final = re.compile(r"[\x7f-\x9f]")
"""C0 characters inside strings are refused by the parser itself; between tokens it takes only white space."""
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_FORBIDDEN_BUT_LINES: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_NESTING: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{\]}]', re.DOTALL)
"""A whole text, to its end when it has no closing quote (so that the scan stays linear), or one bracket."""
_SAFE_RECURSION: Final = 5_000
"""Recursion limits up to here end before the C stack of a thread with 8 MiB does."""
_INTEGER_DIGITS: Final = 16
"""2^53 - 1 has 16 digits; a longer text is refused before Python makes an integer of it."""


def parse_json(raw: bytes, *, line_feeds: bool = False) -> Any:
    """Return the value of UTF-8 JSON made of objects, arrays, strings, integers, booleans and null.

    Raises MalformedRequest for anything else: floats, NaN, duplicate keys, control characters (escaped too), lone
    surrogates, numbers beyond 2^53 - 1, more than 32 levels, a byte order mark, bytes that are not UTF-8. `line_feeds`
    lets texts have lines, for a message that a person signed.
    """
    if raw.startswith(_BOM):
        raise MalformedRequest("the body starts with a byte order mark")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"the body is not UTF-8 at byte {error.start}") from error
    if found := _RAW_CONTROL.search(text):
        raise MalformedRequest(f"control character U+{ord(found[0]):04X} at character {found.start()}")
    _check_depth(text)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise MalformedRequest(f"not JSON: {error.msg} at character {error.pos}") from error
    except RecursionError:
        raise MalformedRequest(f"more than {MAX_DEPTH} levels") from None
    _check(value, _FORBIDDEN_BUT_LINES if line_feeds else _FORBIDDEN, escaped="\\" in text)
    return value


def _check_depth(text: str) -> None:
    """Look at the nesting before the parser recurses in C, where a library has raised Python's limit on that.

    Under Python's own limit the parser ends in a RecursionError, long before the C stack does.
    """
    if sys.getrecursionlimit() <= _SAFE_RECURSION or text.count("[") + text.count("{") <= MAX_DEPTH:
        return
    depth = 0
    for token in _NESTING.finditer(text):
        if token[0] in "[{":
            depth += 1
        elif token[0] in "]}":
            depth -= 1
        if depth > MAX_DEPTH:
            raise MalformedRequest(f"more than {MAX_DEPTH} levels at character {token.start()}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise MalformedRequest(f"the key {key[:60]!r} stands twice in one object", key=key[:60])
            seen.add(key)
    return made


def _integer(text: str) -> int:
    if len(text) > _INTEGER_DIGITS + 1 or not -MAX_INTEGER <= (value := int(text)) <= MAX_INTEGER:
        raise MalformedRequest(f"the number {text[:40]} exceeds 2^53 - 1; larger amounts are decimal strings")
    return value


def _float(text: str) -> NoReturn:
    raise MalformedRequest(f"the number {text[:40]} is no integer; amounts are decimal strings in base units")


def _constant(text: str) -> NoReturn:
    raise MalformedRequest(f"{text} is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant
)


def _check(value: Any, forbidden: re.Pattern[str], *, escaped: bool) -> None:
    """Walk the value once: depth always, texts only where escapes could have brought something in."""
    waiting: list[tuple[Any, int, str]] = [(value, 0, "")]
    while waiting:
        item, depth, pointer = waiting.pop()
        if isinstance(item, str):
            _check_text(item, pointer, forbidden)
            continue
        if not isinstance(item, dict | list):
            continue
        if depth == MAX_DEPTH:
            raise MalformedRequest(f"more than {MAX_DEPTH} levels at {pointer[:120]}")
        if escaped and isinstance(item, dict):
            _check_text("".join(item), f"a key of {pointer}", _FORBIDDEN)
        for key, inner in item.items() if isinstance(item, dict) else enumerate(item):
            if isinstance(inner, dict | list) or escaped:
                waiting.append((inner, depth + 1, f"{pointer}/{key}"))


def _check_text(text: str, pointer: str, forbidden: re.Pattern[str]) -> None:
    if found := forbidden.search(text):
        raise MalformedRequest(f"forbidden character U+{ord(found[0]):04X} in {pointer[:120] or '/'}")
