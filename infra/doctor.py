"""Checks what must never break, on the real data: positions, bytes, the book, followers, keys, clocks, space."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from events.catalog import UpgradeNeeded
from events.envelope import decode_envelope, encode_envelope, time_us
from events.store import PAGE, Store, StoreRewound, verify_checkpoint
from infra.platform import Platform, wall_clock_ms
from services.treasury.invariants import check_book

Verdict = Literal["ok", "warning", "broken"]

SKEW_MS: Final = 5_000
FREE_BYTES: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at: what it is, how it stands, and what was seen or what to do."""

    name: str
    verdict: Verdict
    detail: str


async def examine(platform: Platform, tell: Callable[[str, int, int], None]) -> list[Check]:
    """Return every check; `tell(name, done, total)` follows the long ones."""
    checks = [_permissions(platform), _space(platform), await _clock(platform), await _version(platform)]
    for name, store in platform.stores.items():
        checks += [check async for check in _records(platform, name, store, tell)]
    checks.append(await _book(platform))
    checks += [check async for check in _followers(platform)]
    checks.append(
        Check("release gate", "warning", "ungated: no anchor is there yet, rewards rest on the operator's word")
    )
    return checks


def _permissions(platform: Platform) -> Check:
    home = platform.settings.home
    wide = [
        str(path)
        for path in (home, *(home / "keys").iterdir())
        if stat.S_IMODE(os.stat(path).st_mode) & 0o077  # noqa: PTH116 - one call for files and folders
    ]
    if wide:
        return Check("permissions", "broken", f"others may read {', '.join(wide)}: chmod go-rwx them")
    return Check("permissions", "ok", f"{home} and its keys are the operator's alone")


def _space(platform: Platform) -> Check:
    free = shutil.disk_usage(platform.settings.home).free
    verdict: Verdict = "ok" if free > FREE_BYTES else "warning"
    return Check("disk", verdict, f"{free // 2**20:,} MiB free where the home lies")


async def _clock(platform: Platform) -> Check:
    theirs = await platform.readers.fetchval("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
    skew = abs(int(theirs) - wall_clock_ms())
    verdict: Verdict = "ok" if skew < SKEW_MS else "broken"
    return Check("clock", verdict, f"this machine and the database differ by {skew} ms")


async def _version(platform: Platform) -> Check:
    return Check("database", "ok", str(await platform.readers.fetchval("SELECT version()")))


async def _records(
    platform: Platform, name: str, store: Store, tell: Callable[[str, int, int], None]
) -> AsyncIterator[Check]:
    """Read every record once: dense positions and versions, time, bytes that survive a round trip, known types."""
    faults = _Faults()
    head = (await store.head()).position
    position = 0
    while page := await store.read(position, PAGE):
        for notification in page:
            faults.look(platform, name, notification, position)
            position = notification.id
        tell(f"records of {name}", position, head)
    if faults.found:
        yield Check(f"records of {name}", "broken", "; ".join(faults.found[:5]))
    else:
        yield Check(f"records of {name}", "ok", f"{position:,} facts, dense, in order, byte for byte")


class _Faults:
    def __init__(self) -> None:
        self.found: list[str] = []
        self._versions: dict[str, int] = {}
        self._time = 0

    def look(self, platform: Platform, service: str, notification: Any, before: int) -> None:
        at, raw = notification.id, notification.state
        envelope = decode_envelope(raw)
        rules = {
            "a hole before it": at == before + 1,
            "its bytes do not survive a round trip": encode_envelope(envelope) == raw,
            "its position is another": envelope.position == str(at),
            "it names another service": envelope.service == service,
            "a version is missing": int(envelope.streamversion) == self._versions.get(envelope.subject, 0) + 1,
            "time went back": time_us(envelope.time) >= self._time,
        }
        try:
            platform.catalog.decode_data(envelope.type, envelope.data)
        except UpgradeNeeded as error:
            self.found.append(f"position {at}: {error}")
        self.found += [f"position {at}: {rule}" for rule, holds in rules.items() if not holds]
        self._versions[envelope.subject] = int(envelope.streamversion)
        self._time = time_us(envelope.time)


async def _book(platform: Platform) -> Check:
    appender = platform.appenders["treasury"]
    await appender.load()
    broken = check_book(appender.state)
    if broken:
        return Check("the book", "broken", "; ".join(broken))
    return Check("the book", "ok", "sum of balances = minted - burned; no account below zero")


async def _followers(platform: Platform) -> AsyncIterator[Check]:
    for view in platform.views:
        try:
            for checkpoint in (await platform.view_store.checkpoints(view.follower)).values():
                await verify_checkpoint(platform.stores[checkpoint.channel], checkpoint)
        except StoreRewound as error:
            yield Check(f"view {view.name}", "broken", str(error))
        else:
            yield Check(f"view {view.name}", "ok", "its checkpoints name records that are there")
