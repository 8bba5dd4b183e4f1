"""Names of accounts and of the book's stream. A member's account has the member's id."""

from __future__ import annotations

from typing import Final

EMISSION_RESERVE: Final = "pool/emission-reserve"
"""Where everything unpaid goes; no later epoch's pool grows from it."""

COMMUNITY: Final = "community"
"""The owner of accounts that no member owns: no member's signature debits them."""

BACKFILL_POOL: Final = "backfill-"
"""A genesis pool named so, plus a backfill's name, is that backfill's fund."""


def book(symbol: str) -> str:
    """Return the stream of an asset's book."""
    return f"book/{symbol}"


def pool(name: str) -> str:
    """Return the account of a pool of the initial distribution."""
    return f"pool/{name}"


def vesting(name: str) -> str:
    """Return the account a pool vests from."""
    return f"vesting/{name}"


def fund(backfill: str) -> str:
    """Return the account a backfill's epochs are paid from."""
    return f"fund/{backfill}"


def epoch(number: int) -> str:
    """Return the account an epoch's pool passes through."""
    return f"epoch/{number}"


def late_reserve(number: int) -> str:
    """Return the account an epoch's late usage is paid from."""
    return f"late-reserve/{number}"
