"""Brokers are killed while facts are recorded, relayed and followed: every fact arrives, and takes effect once."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from eventsourcing.persistence import StoredEvent

from events.channels import positions_by_service
from events.store import Checkpoint, StoreUnavailable
from infra.kafka.broker import NativeKafka
from infra.kafka.bus import KafkaBus
from infra.kafka.classpath import NoNativeKafka
from infra.kafka.relay import PAGES_IN_FLIGHT, Relay
from infra.kafka.topics import Cluster
from infra.memory import MemoryStore
from tests.followers import follower
from tests.history import seal
from tests.relaying import relaying

STREAMS = 50
GROUP = 40


@pytest.fixture
def brokers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[NativeKafka]:
    try:
        made = NativeKafka(tmp_path, request.param)
    except NoNativeKafka as missing:
        if "CI" in os.environ:
            raise
        pytest.skip(f"needs native brokers: {missing}")
    try:
        made.start()
        yield made
    finally:
        made.stop()


class Load:
    """Records facts without end, and follows them: which positions took effect, and how often."""

    def __init__(self, cluster: Cluster) -> None:
        self.store = MemoryStore("left")
        self.bus = KafkaBus(cluster, {"left": self.store})
        self.effects: dict[int, int] = {}
        self.checkpoints: dict[str, Checkpoint] = {}
        self.most_in_flight = 0

    async def record(self) -> None:
        while True:
            async with self.store.session() as session:
                first = session.head.position
                made = [
                    StoredEvent(f"node/{n % STREAMS}", n // STREAMS + 1, "left.topic.v1", b'{"n":"%d"' % n)
                    for n in range(first, first + GROUP)
                ]
                await session.append(made, seal=seal)
            await asyncio.sleep(0.02)

    async def follow(self) -> None:
        while True:
            with suppress(StoreUnavailable):
                subscription = await self.bus.subscribe(follower(["left"], self.checkpoints))
                try:
                    while True:
                        page = await subscription.fetch(1)
                        for each in (page, *page.quiet) if page else ():
                            self.checkpoints[each.channel] = each.checkpoint("f")
                        for record in page.records if page else ():
                            self.effects[record.id] = self.effects.get(record.id, 0) + 1
                finally:
                    await subscription.close()
            await asyncio.sleep(0.2)

    async def watch(self, relay: Relay) -> None:
        while True:
            self.most_in_flight = max(self.most_in_flight, len(relay._in_flight))
            await asyncio.sleep(0.01)

    async def reached(self, position: int, seconds: float) -> None:
        async with asyncio.timeout(seconds):
            while positions_by_service(self.checkpoints).get("left", 0) < position:
                await asyncio.sleep(0.05)

    async def head(self) -> int:
        return (await self.store.head()).position


async def under_load(cluster: Cluster, brokers: NativeKafka, kills: int) -> None:
    load = Load(cluster)
    async with relaying([load.store], cluster) as (relay,):
        working = [asyncio.create_task(each) for each in (load.record(), load.follow(), load.watch(relay))]
        try:
            await load.reached(200, 60)
            for kill in range(kills):
                number = kill % len(brokers.numbers) + 1
                brokers.kill(number)
                before = await load.head()
                await asyncio.sleep(2)
                if len(brokers.numbers) > 1:  # the others go on by themselves
                    await load.reached(before + 10 * GROUP, 60)
                brokers.launch(number)
                await asyncio.to_thread(brokers.wait_ready, len(brokers.numbers))
                await load.reached(await load.head(), 60)
            working[0].cancel()
            await load.reached(await load.head(), 60)
        finally:
            for task in working:
                task.cancel()
            ended = await asyncio.gather(*working, return_exceptions=True)
    assert [error for error in ended if not isinstance(error, asyncio.CancelledError)] == []
    head = await load.head()
    assert sorted(load.effects) == list(range(1, head + 1)), "a fact is missing"
    assert set(load.effects.values()) == {1}, "a fact took effect twice"
    assert load.most_in_flight <= PAGES_IN_FLIGHT + 1, "what waits for the brokers is bounded"


@pytest.mark.parametrize("brokers", [1], indirect=True)
async def test_a_broker_killed_and_started_again_under_load_loses_nothing(brokers: NativeKafka) -> None:
    await under_load(Cluster(brokers.bootstrap), brokers, kills=1)


@pytest.mark.crash
@pytest.mark.parametrize("brokers", [3], indirect=True)
async def test_three_brokers_of_which_one_after_the_other_is_killed_lose_nothing_and_go_on(
    brokers: NativeKafka,
) -> None:
    await under_load(Cluster(brokers.bootstrap, replication=3), brokers, kills=3)
