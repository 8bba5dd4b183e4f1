"""Checks what must never break, on the real data; each check says how it stands, what was seen and what to do.

A check that stumbles over broken data is a finding, not an end: the others are looked at all the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final

from events.store import StoreUnavailable
from infra.checks import following, home, versions
from infra.checks.check import Check, Verdict
from infra.checks.erasures import erasures, keystore_backups
from infra.checks.records import outcomes, records
from infra.platform import Platform, wall_clock_ms
from services.treasury.invariants import check_book

__all__ = ["Check", "Verdict", "examine", "examine_home"]

_LOOK_AGAIN: Final = "mend what this and the other checks name, newest software first, then run `commons doctor` again"

Tell = Callable[[str, int, int], None]


def examine_home(where: Path) -> list[Check]:
    """Return what can be seen of a home without its database."""
    return [home.permissions(where), home.space(where), home.unknown_files(where)]


async def examine(platform: Platform, tell: Tell) -> list[Check]:
    """Return every check; `tell(name, done, total)` follows the long ones. Raises StoreUnavailable."""
    checks = examine_home(platform.settings.home)
    for name, look in _looks(platform):
        checks.append(await _guarded(name, look()))
    for name, store in platform.stores.items():
        checks += await _all_of(f"records of {name}", records(platform, name, store, tell))
        checks.append(await _guarded(f"answers of {name}", outcomes(platform, name, store)))
    checks += await _all_of("views", following.views(platform))
    checks.append(
        Check(
            "release gate",
            "warning",
            "ungated: no anchor is there yet, rewards rest on the operator's word",
            "nothing to do in this version",
        )
    )
    return checks


def _looks(platform: Platform) -> Iterator[tuple[str, Callable[[], Awaitable[Check]]]]:
    """Yield the checks that are one look each, by name."""

    async def keys() -> Check:
        return home.keys(platform.settings.home, await platform.feed.current(), wall_clock_ms())

    async def erased() -> Check:
        return await erasures(platform, await platform.feed.current())

    async def backups() -> Check:
        return keystore_backups(platform.settings.home, wall_clock_ms())

    yield "keys", keys
    yield "clock", lambda: versions.clock(platform)
    yield "versions", lambda: versions.versions(platform)
    yield "database", lambda: versions.database(platform)
    yield "the book", lambda: _book(platform)
    yield "erasures", erased
    yield "keystore backups", backups
    yield "policies", lambda: following.policies(platform)


async def _guarded(name: str, look: Awaitable[Check]) -> Check:
    try:
        return await look
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - whatever broken data does to a check is what the doctor has to say
        return _stumbled(name, error)


async def _all_of(name: str, looks: AsyncIterator[Check]) -> list[Check]:
    found: list[Check] = []
    try:
        async for check in looks:
            found.append(check)  # noqa: PERF401 - what was found before a stumble is kept
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        found.append(_stumbled(name, error))
    return found


def _stumbled(name: str, error: Exception) -> Check:
    return Check(name, "broken", f"it could not be looked at: {error or type(error).__name__}", _LOOK_AGAIN)


async def _book(platform: Platform) -> Check:
    appender = platform.appenders["treasury"]
    await appender.load()
    broken = check_book(appender.state)
    if broken:
        fix = "do not pay on: restore a backup of before, and keep this one"
        return Check("the book", "broken", "; ".join(broken), fix)
    return Check("the book", "ok", "sum of balances = minted - burned; no account below zero")
