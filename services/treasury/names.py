"""Names of accounts and of the book's stream. A member's account has the member's id."""

from __future__ import annotations

from typing import Final

from events.registry_terms import DeviceKind

EMISSION_RESERVE: Final = "pool/emission-reserve"
"""Where everything unpaid goes; no later epoch's pool grows from it."""

HOLDBACK: Final = "holdback/"
"""What the names of accounts begin with that hold back rewards."""

FORFEITS: Final = "treasury/forfeits"
"""Where forfeited holdback goes."""

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


def epoch(number: int, kind: DeviceKind = "gpu") -> str:
    """Return the account an epoch's pool of a kind passes through."""
    return f"epoch/{_of(number, kind)}"


def late_reserve(number: int, kind: DeviceKind = "gpu") -> str:
    """Return the account an epoch's late usage of a kind is paid from."""
    return f"late-reserve/{_of(number, kind)}"


def holdback(number: int) -> str:
    """Return the account that holds what is held back of an epoch's rewards, of all kinds."""
    return f"{HOLDBACK}{number}"


def _of(number: int, kind: DeviceKind) -> str:
    """Return what names an epoch's sub-pool; GPUs had the whole pool first, and keep the plain number."""
    return str(number) if kind == "gpu" else f"{number}/{kind}"
