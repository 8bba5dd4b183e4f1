"""Benchmark of the whole way: from a command to the view that shows it, embedded and through Kafka.

Two instances run, each with a home and a PostgreSQL of its own: one whose followers read the stores, one with relays
and Kafka in between. Commands are decided and committed in this process, as in a process of the role `http` but
without its edge; policies, all views and the relays run in a child, as `commons up` has them. A transfer is visible
when the balances' checkpoint of its book's channel has come to it. It is answerable with `Commons-At-Least` when the
checkpoints of all partitions have, which on Kafka the watermarks tell.

Saturation is the rate at which many callers, who each wait for their answer, bring commands all the way to the view.
The shares of it are offered in an open loop, in alternating rounds.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, Final

from events.channels import partition_of, positions_by_service, share_of
from events.genesis import Community, Currency, Epochs, Founder, Pool
from events.store import Checkpoint
from events.treasury import Posting
from infra.bench.brokers import brokers
from infra.bench.commands import CALLERS, SUPPLY
from infra.bench.open_loop import Sample, arrivals, delays, offered, percentile
from infra.bench.rounds import Figure
from infra.founding import found
from infra.kafka.topics import Cluster
from infra.keys import signing_key
from infra.local import Say, database, processes
from infra.platform import CHILDREN, Platform, open_platform
from infra.settings import KAFKA, TAIL, Settings
from projections import balances
from projections.store import Select
from services.kernel.group import Request
from services.treasury.commands import PostTransaction

SHARES: Final = (10, 50, 90)
"""Percent of saturation."""
ROUNDS: Final = 3
SECONDS: Final = 8.0
"""How long load is offered in a round."""
COMMANDS: Final = 20_480
"""How many commands a round of saturation is."""
LOOK_SECONDS: Final = 0.002
"""How often the checkpoints are looked at: delays are this much too long at most."""
PATIENCE_SECONDS: Final = 120.0

STREAM: Final = "book/COMPUTE"
PAYER, PAYEE = (signing_key(bytes([number]) * 32) for number in (1, 2))


def community() -> Community:
    """Return a community of two, whose supply one of them has."""
    return Community(
        format="commons.genesis/1",
        name="A benchmark",
        origin="bench.commons.example",
        members=(
            Founder(handle="payer", kind="agent", key=PAYER.public, roles=("operator", "steward")),
            Founder(handle="payee", kind="agent", key=PAYEE.public),
        ),
        currency=Currency(
            cap=SUPPLY,
            initial_supply=SUPPLY,
            emission_per_epoch="0",
            distribution=(Pool(name="all", share_ppm=1_000_000, member="payer"),),
        ),
        epochs=Epochs(zero="2026-01-01T00:00:00Z"),
        performance_tables=(),
    )


@dataclass
class Seen:
    """What was seen of the balances' checkpoints, from the last `clear` on."""

    visible: list[Sample] = field(default_factory=list)
    at_least: list[Sample] = field(default_factory=list)

    def clear(self) -> None:
        """Forget what was seen."""
        self.visible.clear()
        self.at_least.clear()

    def look(self, found: Mapping[str, Checkpoint]) -> None:
        """Take in the checkpoints as they are now."""
        now, reached = time.perf_counter(), 0
        for channel, point in found.items():
            share = share_of(channel)
            if share is None or share.partition == partition_of(STREAM, share.count):
                reached = max(reached, point.position)
        self.visible.append((now, reached))
        self.at_least.append((now, positions_by_service(found).get("treasury", 0)))


@dataclass
class Instance:
    """One instance at work."""

    platform: Platform
    seen: Seen
    numbers: Callable[[], int]

    async def transfer(self) -> int:
        """Submit one; return its position."""
        number = self.numbers()
        command = PostTransaction((Posting(PAYER.member, PAYEE.member, "1"),), "")
        request = Request(command, PAYER.member, f"transfer-{number}", b"%d" % number)
        (accepted,) = await self.platform.appenders["treasury"].submit(request)
        return accepted.last

    async def shown(self, position: int, samples: list[Sample]) -> None:
        """Wait until the view has come to a position, as `samples` tell. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not samples or samples[-1][1] < position:  # noqa: ASYNC110 - looked at, not told
                await asyncio.sleep(LOOK_SECONDS)

    async def saturation(self, commands: int) -> float:
        """Return how many commands a second CALLERS bring all the way to the view."""
        self.seen.clear()
        callers = min(CALLERS, commands)
        begun, last = time.perf_counter(), 0

        async def caller() -> None:
            nonlocal last
            for _ in range(commands // callers):
                last = max(last, await self.transfer())

        await asyncio.gather(*(caller() for _ in range(callers)))
        await self.shown(last, self.seen.visible)
        ended = next(at for at, position in self.seen.visible if position >= last)
        await self.shown(last, self.seen.at_least)
        return commands // callers * callers / (ended - begun)

    async def delays(self, rate: float, seconds: float, seed: int) -> tuple[list[float], list[float]]:
        """Offer `rate` commands a second; return the delays until visible and until answerable, both rising."""
        self.seen.clear()
        sent = await offered(arrivals(rate, seconds, seed) or [0.0], self.transfer)
        await self.shown(max(position for _, position in sent), self.seen.at_least)
        return delays(sent, self.seen.visible), delays(sent, self.seen.at_least)


@asynccontextmanager
async def instance(home: Path, cluster: Cluster | None, say: Say) -> AsyncIterator[Instance]:
    """Found a community of its own and run it; without a cluster its followers read the stores."""
    bus = TAIL if cluster is None else KAFKA + cluster.bootstrap
    settings = Settings(home, "127.0.0.1", 1, "http://127.0.0.1:1", "embedded:", bus, "error")
    environ = {**os.environ, "COMMONS_BUS": bus, "COMMONS_LOG_LEVEL": "error"}
    if cluster is not None:
        settings = replace(settings, kafka_prefix=cluster.prefix, kafka_partitions=cluster.partitions)
        environ |= {"COMMONS_KAFKA_PREFIX": cluster.prefix, "COMMONS_KAFKA_PARTITIONS": str(cluster.partitions)}
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(database(settings, say))
        settings = replace(settings, database=dsn)
        platform = await stack.enter_async_context(open_platform(settings, dsn))
        await found(platform, community())
        await stack.enter_async_context(processes(settings, CHILDREN[1:], say, environ))
        await _funded(platform)
        treasury, seen = platform.appenders["treasury"], Seen()
        await treasury.load()
        for work in (treasury.run(), _looking(platform, seen)):
            stack.push_async_callback(_ended, asyncio.create_task(work))
        yield Instance(platform, seen, count().__next__)


async def _funded(platform: Platform) -> None:
    """Wait until the policies have opened the accounts and the view shows them."""
    names = {PAYER.member, PAYEE.member}
    await platform.view_store.prepare(balances.VIEW)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            async with platform.view_store.reading(balances.VIEW) as snapshot:
                rows = await snapshot.select(Select(balances.ACCOUNTS))
            if names <= {row.account for row in rows if row.kind} and any(row.balance > 0 for row in rows):
                return
            await asyncio.sleep(0.05)


async def _looking(platform: Platform, seen: Seen) -> None:
    while True:
        seen.look(await platform.view_store.checkpoints(balances.VIEW.follower))
        await asyncio.sleep(LOOK_SECONDS)


async def _ended(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def bench_flow(
    home: Path, say: Say, *, rounds: int = ROUNDS, seconds: float = SECONDS, commands: int = COMMANDS
) -> list[Figure]:
    """Measure saturation in commands/s, and at shares of it the delays to the view in ms; medians over the rounds."""
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(brokers(home))
        kafka = await stack.enter_async_context(instance(home / "through-kafka", cluster, say))
        tail = await stack.enter_async_context(instance(home / "embedded", None, say))
        both = (kafka, tail)
        peaks = [[await each.saturation(commands) for each in both] for _ in range(rounds + 1)][1:]
        most = tuple(median(each) for each in zip(*peaks, strict=True))
        figures = [_figure("flow, saturation", most, "commands/s")]
        for share in SHARES:
            rows = [
                [
                    _told(await each.delays(peak * share / 100, seconds, number))
                    for each, peak in zip(both, most, strict=True)
                ]
                for number in range(rounds)
            ]
            for name in rows[0][0]:
                values = tuple(median(row[side][name] for row in rows) for side in range(len(both)))
                figures.append(_figure(f"flow at {share} % of saturation, {name}", values, "ms"))
    return figures


def _told(measured: tuple[list[float], list[float]]) -> dict[str, float]:
    visible, at_least = ([1_000 * delay for delay in each] for each in measured)
    return {
        "visible p50": percentile(visible, 50),
        "visible p99": percentile(visible, 99),
        "at least p99": percentile(at_least, 99),
    }


def _figure(name: str, values: tuple[float, ...], unit: str) -> Figure:
    kafka, tail = values
    return Figure(name, kafka, tail, kafka / tail, unit, "embedded: followers read the stores")
