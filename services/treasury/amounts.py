"""Amounts as commands bring them: text, canonical, above zero, within 64 bits."""

from __future__ import annotations

from typing import Final

from events.values import INT64_MAX
from services.kernel.errors import InvalidField
from services.treasury.errors import AmountOverflow

_SAFE_DIGITS: Final = 18
"""So many digits always fit in 64 bits."""


def positive(text: str) -> int:
    """Return the base units in `text`.

    Raises AmountOverflow above 2^63 - 1 and InvalidField for everything else that is not a canonical decimal integer
    above zero: a sign, a leading zero, a fraction, an exponent, a number where text belongs.
    """
    if isinstance(text, str) and text.isdecimal() and text.isascii() and text[0] != "0":
        if len(text) <= _SAFE_DIGITS:
            return int(text)
        # Longer texts are measured before they are read: reading a text of a million digits takes too long.
        if len(text) > _SAFE_DIGITS + 1 or int(text) > INT64_MAX:
            raise AmountOverflow(f"{text[:40]} does not fit in 64 bits", amount=text[:40])
        return int(text)
    raise InvalidField(
        "an amount is a canonical decimal integer of base units above zero, as text", amount=str(text)[:40]
    )


def added(balance: int, amount: int) -> int:
    """Return the sum of a balance and an amount; raises AmountOverflow when it does not fit in 64 bits."""
    whole = balance + amount
    if whole > INT64_MAX:
        raise AmountOverflow(f"a balance of {whole} does not fit in 64 bits", amount=str(amount))
    return whole
