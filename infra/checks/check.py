"""The form of every check."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "warning", "broken"]


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: what it is, how it stands, what was seen, and what to do about it."""

    name: str
    verdict: Verdict
    detail: str
    fix: str = ""


def listed(found: Iterable[str], most: int = 5) -> str:
    """Return the first of many, with a word on how many more there are."""
    names = list(found)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
