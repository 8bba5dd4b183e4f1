"""Clocks and versions: the code's, the tables', PostgreSQL's."""

from __future__ import annotations

import platform as machine
from typing import Final

from infra.checks.check import Check, Verdict, listed
from infra.home import software
from infra.platform import Platform, wall_clock_ms
from infra.postgres.migration import check_layouts, check_postgres

SKEW_MS: Final = 5_000

_LAST: Final = "SELECT max(time_us) / 1000 FROM (SELECT time_us FROM {} ORDER BY notification_id DESC LIMIT 1) AS last"
_ASIDE: Final = "SELECT nspname FROM pg_namespace WHERE nspname ~ '_replaced_[0-9]+$' ORDER BY nspname"


async def clock(platform: Platform) -> Check:
    """Compare this machine's clock with the database's, and both with the last recorded time."""
    theirs = await platform.readers.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    now = wall_clock_ms()
    skew = abs(int(theirs) - now)
    if skew >= SKEW_MS:
        fix = "set both clocks by NTP: requests signed here are refused when they differ by minutes"
        return Check("clock", "broken", f"this machine and the database differ by {skew} ms", fix)
    for name in platform.stores:
        last = await platform.readers.fetchval(_LAST.format(f'"{name}".events'))
        if last is not None and int(last) - now > SKEW_MS:
            ahead = (int(last) - now) // 1_000
            fix = "set the clock by NTP: recorded time stands still until it has caught up"
            return Check("clock", "warning", f"the last fact of {name} is {ahead} s ahead of the clock", fix)
    return Check("clock", "ok", f"this machine and the database differ by {skew} ms")


async def versions(platform: Platform) -> Check:
    """Tell which versions work together; other layouts and majors do not get this far."""
    major = await check_postgres(platform.dsn)
    layouts = await check_layouts(platform.dsn, list(platform.stores))
    told = ", ".join(f"{name} {layout}" for name, layout in layouts.items())
    detail = f"software {software()}, Python {machine.python_version()}, PostgreSQL {major}, layouts: {told}"
    return Check("versions", "ok", detail)


async def database(platform: Platform) -> Check:
    """Tell what the database says about itself, and what a restore left in it."""
    row = await platform.readers.fetchrow(
        "SELECT version(), current_setting('fsync'), current_setting('data_checksums')"
    )
    aside = [each[0] for each in await platform.readers.fetch(_ASIDE)]
    verdict: Verdict = "ok"
    if row[1] != "on":
        return Check("database", "broken", "fsync is off: answered commands may be lost", "set fsync = on")
    detail, fix = f"{row[0].partition(',')[0]}, data checksums {row[2]}", ""
    if aside:
        verdict, detail = "warning", f"{detail}; put aside by a restore: {listed(aside)}"
        fix = "drop these schemas when you need them no more"
    return Check("database", verdict, detail, fix)
