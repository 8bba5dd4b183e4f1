"""The smallest judgements on a genesis document. Problems are `path: sentence`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from events.envelope import time_us
from events.values import ValueRefused, is_slug, parse_units

SAFE_INTEGER: Final = 2**53 - 1
"""Larger JSON numbers break in other languages."""

NAME_CHARACTERS: Final = 120

SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")

_INSTANT: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{3}(?:000)?)?Z\Z")


def instant_ms(text: str) -> int:
    """Return the milliseconds since 1970 of an RFC 3339 time in UTC, whole milliseconds, from 1970 on.

    Raises ValueRefused for any other spelling.
    """
    if not _INSTANT.match(text):
        raise ValueRefused(f"{text[:40]!r} is not a UTC time like 2026-01-01T00:00:00Z")
    try:
        micros = time_us(text)
    except ValueError as error:
        raise ValueRefused(f"{text!r} is no time: {error}") from error
    if micros < 0:
        raise ValueRefused(f"{text} lies before 1970")
    return micros // 1_000


def amount_problems(path: str, text: str, least: int = 0) -> Iterator[str]:
    """Judge a canonical amount of base units, at least `least`."""
    value = units(text)
    if value is None:
        yield f"{path}: {text[:40]!r} is not a whole number of base units in 64 bits, written without sign or zeros"
    elif value < least:
        yield f"{path}: {value} is below {least}"


def units(text: str) -> int | None:
    """Return the amount, or None when it is not canonical."""
    try:
        return parse_units(text)
    except ValueRefused:
        return None


def instant_problems(path: str, text: str) -> Iterator[str]:
    """Judge a UTC time."""
    try:
        instant_ms(text)
    except ValueRefused as problem:
        yield f"{path}: {problem}"


def text_problems(path: str, text: str, limit: int) -> Iterator[str]:
    """Judge a text for people: printable, 1 to `limit` characters."""
    if not 1 <= len(text) <= limit or not text.isprintable():
        yield f"{path}: must be 1 to {limit} printable characters"


def slug_problems(path: str, field: str, names: Sequence[str]) -> Iterator[str]:
    """Judge names that stand for something: lower-case and nobody's twice."""
    for index, name in enumerate(names):
        if not is_slug(name):
            yield f"{path}[{index}].{field}: {name[:80]!r} is not a lower-case name of letters, digits, dots, dashes"
    for name in repeated(names):
        yield f"{path}: the {field} {name} stands twice"


def subset_problems(path: str, names: Sequence[str], whole: Sequence[str], what: str) -> Iterator[str]:
    """Judge names that must stand in `whole`, each once."""
    for name in names:
        if name not in whole:
            yield f"{path}: {name[:80]!r} is not {what}"
    for name in repeated(names):
        yield f"{path}: {name} stands twice"


def repeated(names: Iterable[str]) -> list[str]:
    """Return what stands more than once."""
    return [name for name, count in Counter(names).items() if count > 1]
