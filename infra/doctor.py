"""Checks what must never break, on the real data; each check says how it stands, what was seen and what to do."""

from __future__ import annotations

from collections.abc import Callable

from infra.checks import following, home, versions
from infra.checks.check import Check, Verdict
from infra.checks.erasures import erasures
from infra.checks.records import outcomes, records
from infra.platform import Platform, wall_clock_ms
from services.treasury.invariants import check_book

__all__ = ["Check", "Verdict", "examine"]


async def examine(platform: Platform, tell: Callable[[str, int, int], None]) -> list[Check]:
    """Return every check; `tell(name, done, total)` follows the long ones."""
    where = platform.settings.home
    directory = await platform.feed.current()
    checks = [
        home.permissions(where),
        home.space(where),
        home.unknown_files(where),
        home.keys(where, directory, wall_clock_ms()),
        await versions.clock(platform),
        await versions.versions(platform),
        await versions.database(platform),
    ]
    for name, store in platform.stores.items():
        checks += [check async for check in records(platform, name, store, tell)]
        checks.append(await outcomes(platform, name, store))
    checks += [await _book(platform), await erasures(platform, directory), await following.policies(platform)]
    checks += [check async for check in following.views(platform)]
    checks.append(
        Check(
            "release gate",
            "warning",
            "ungated: no anchor is there yet, rewards rest on the operator's word",
            "nothing to do in this version",
        )
    )
    return checks


async def _book(platform: Platform) -> Check:
    appender = platform.appenders["treasury"]
    await appender.load()
    broken = check_book(appender.state)
    if broken:
        fix = "do not pay on: restore a backup of before, and keep this one"
        return Check("the book", "broken", "; ".join(broken), fix)
    return Check("the book", "ok", "sum of balances = minted - burned; no account below zero")
