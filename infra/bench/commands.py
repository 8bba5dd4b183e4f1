"""Benchmark of the one command path: one-fact commands from 512 callers, decided, encoded and with their outcomes.

The command is the smallest real one of the treasury, a transfer. The baseline is the eventsourcing library's locked
recorder at its best thread count, which only appends: it neither decides nor keeps an outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, Final

from events.facts import catalog
from events.genesis import Community, Currency, Epochs, Founder, Pool
from events.store import Store
from events.telemetry import Telemetry
from events.treasury import Posting
from infra.bench.rounds import Figure, Work, alternate
from infra.bench.store import THREADS, LibraryRecorder, ground
from infra.gate import Ungated
from infra.keys import signing_key
from services.kernel.appender import Appender
from services.kernel.directory import Directory
from services.kernel.group import Request
from services.treasury.commands import AdoptGenesis, OpenMemberAccount, PostTransaction
from services.treasury.service import service

CALLERS: Final = 512
PAYER: Final = signing_key(bytes(32))
MEMBER: Final = PAYER.member
OTHER: Final = f"member/{2:032x}"
SUPPLY: Final = "1000000000000"

_COMMUNITY: Final = Community(
    format="commons.genesis/1",
    name="A benchmark",
    origin="bench.commons.example",
    members=(Founder(handle="payer", kind="agent", key=PAYER.public),),
    currency=Currency(
        cap=SUPPLY,
        initial_supply=SUPPLY,
        emission_per_epoch="0",
        distribution=(Pool(name="all", share_ppm=1_000_000, member="payer"),),
    ),
    epochs=Epochs(zero="2026-01-01T00:00:00Z"),
    performance_tables=(),
)


@asynccontextmanager
async def book(
    store: Store, kind: type[Appender[Any]] = Appender, telemetry: Telemetry | None = None
) -> AsyncIterator[Appender[Any]]:
    """Serve the treasury over an empty store, with an account that can pay."""

    async def directory() -> Directory:
        return Directory(community=_COMMUNITY)

    appender = kind(service(Ungated()), store, catalog(), directory, b"bench", telemetry)
    await appender.load()
    serving = asyncio.create_task(appender.run())
    try:
        await appender.submit(
            Request(AdoptGenesis(_COMMUNITY, 0), "policy/bench", "adopt", b""),
            Request(OpenMemberAccount(MEMBER), "policy/bench", "one", b""),
            Request(OpenMemberAccount(OTHER), "policy/bench", "two", b""),
        )
        yield appender
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving


def calling(appender: Appender[Any], commands: int) -> Work:
    """Return a round of `commands` transfers by CALLERS who each wait for their answer."""
    numbers = count()

    async def caller(share: int) -> None:
        for _ in range(share):
            number = next(numbers)
            command = PostTransaction((Posting(MEMBER, OTHER, "1"),), "")
            await appender.submit(Request(command, MEMBER, f"transfer-{number}", b"%d" % number))

    async def work(_round: int) -> int:
        await asyncio.gather(*(caller(commands // CALLERS) for _ in range(CALLERS)))
        return commands // CALLERS * CALLERS

    return work


async def bench_commands(dsn: str, *, rounds: int = 5, commands: int = 40_960, calls: int = 400) -> Figure:
    """Measure the command path against the library's recorder; commands per second. Floors of DESIGN 5."""
    async with ground(dsn) as (store, _connection), book(store) as appender:
        library = LibraryRecorder(dsn, calls)
        try:
            ours, *theirs = await alternate(
                rounds, calling(appender, commands), *(library.on(threads) for threads in THREADS)
            )
        finally:
            library.datastore.close()
    best = max(theirs)
    name = f"the library's recorder, {THREADS[theirs.index(best)]} threads"
    floor = "ratio >= 10 and ours >= 20,000"
    return Figure(f"one-fact commands, {CALLERS} callers", ours, best, ours / best, "commands/s", name, floor)
