"""Views that follow Kafka hold what a rebuild from the stores holds, whatever comes twice, moves or is cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest
from eventsourcing.persistence import Notification

from events.bus import ChannelGap, OtherBus, Page, Subscription
from events.channels import positions_by_service
from events.facts import catalog
from events.store import Store
from infra.kafka.bus import KafkaBus
from infra.kafka.publisher import Delivery, Publisher
from infra.kafka.topics import Cluster
from infra.memory import MemoryStore
from infra.memory_views import MemoryViews
from infra.tail import TailBus
from projections import usage
from projections.catalog import views
from projections.queries import ViewReader
from projections.rebuild import Rebuild, rebuild
from projections.routes import NotCaughtUp, QueryContext
from projections.runner import ViewRunner
from projections.view import View
from tests.history import History, a_community, posted
from tests.kafka_source import KafkaSource, skip_unless_real
from tests.relaying import NO_TRACES, TwicePublisher, relaying

SERVICES = ("registry", "metering", "treasury")
SECONDS = 60
"""How long followers may take to come to the end before they count as stuck."""


@pytest.fixture(autouse=True)
def _real(kafka: KafkaSource) -> None:
    skip_unless_real(kafka)


@dataclass
class Community:
    """Stores with a history, and views that follow them."""

    stores: Mapping[str, Store]
    kept: MemoryViews
    history: History

    def runner(self, view: View, cluster: Cluster) -> ViewRunner:
        return ViewRunner(view, self.kept, KafkaBus(cluster, self.stores), catalog())

    async def heads(self, view: View) -> dict[str, int]:
        return {service: (await self.stores[service].head()).position for service in view.services}

    async def caught_up(self, view: View) -> bool:
        reached = positions_by_service(await self.kept.checkpoints(view.follower))
        return all(reached.get(service, 0) >= head for service, head in (await self.heads(view)).items())

    async def all_caught_up(self, followed: Sequence[View]) -> None:
        async with asyncio.timeout(SECONDS):
            while not all([await self.caught_up(view) for view in followed]):
                await asyncio.sleep(0.05)

    async def assert_as_rebuilt(self, view: View) -> None:
        async with self.kept.reading(view) as snapshot:
            live = await snapshot.digest(view)
        clean = await rebuild(view, MemoryViews(), self.stores, catalog())
        assert live == clean.hash_after, view.name
        assert await self.kept.alarms() == []


async def community(steps: int, seed: int = 7) -> Community:
    stores: dict[str, Store] = {
        service: MemoryStore(service, clock=lambda: 1_760_000_000_000_000) for service in SERVICES
    }
    history = History(stores)
    await history.record(*a_community(Random(seed), steps))
    return Community(stores, MemoryViews(), history)


@asynccontextmanager
async def running(runners: Sequence[ViewRunner]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(runner.run()) for runner in runners]
    try:
        yield
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("publisher", [Publisher, TwicePublisher])
@pytest.mark.parametrize("partitions", [1, 6])
async def test_every_view_holds_what_a_rebuild_holds(
    cluster: Cluster, partitions: int, publisher: type[Publisher]
) -> None:
    world, cluster = await community(300), replace(cluster, partitions=partitions)
    async with (
        relaying(world.stores.values(), cluster, publisher),
        running([world.runner(v, cluster) for v in views()]),
    ):
        await world.all_caught_up(views())
        await world.history.record(posted("pool/community", "member/1", 5, 10_000))
        await world.all_caught_up(views())
    for view in views():
        await world.assert_as_rebuilt(view)


class Shared(ViewRunner):
    """A runner that remembers its subscription, and which channels it was given."""

    def __init__(self, view: View, world: Community, cluster: Cluster) -> None:
        super().__init__(view, world.kept, KafkaBus(cluster, world.stores), catalog())
        self.channels: set[str] = set()
        self.subscription: Any = None

    async def subscribe(self) -> Subscription:
        self.subscription = await super().subscribe()
        return self.subscription

    async def take(self, page: Page) -> None:
        self.channels.add(page.channel)
        await super().take(page)

    @property
    def share(self) -> int:
        return len(self.subscription._within._member.placed) if self.subscription else 0


@pytest.mark.parametrize(("partitions", "shares"), [(1, [0, 0, 1]), (6, [2, 2, 2])])
async def test_three_consumers_share_a_view_and_hold_what_a_rebuild_holds(
    cluster: Cluster, partitions: int, shares: list[int]
) -> None:
    world, cluster = await community(200), replace(cluster, partitions=partitions)
    shared = [Shared(usage.VIEW, world, cluster) for _ in range(3)]
    async with relaying(world.stores.values(), cluster), running(shared):
        async with asyncio.timeout(SECONDS):
            while sorted(runner.share for runner in shared) != shares:
                await asyncio.sleep(0.05)
        extra = a_community(Random(8), 3_000)
        await world.history.record(*(entry for entry in extra if entry[1].TYPE.startswith("metering.")))
        await world.all_caught_up([usage.VIEW])
    await world.assert_as_rebuilt(usage.VIEW)
    assert sum(bool(runner.channels) for runner in shared) >= sum(bool(share) for share in shares)


async def test_a_consumer_that_begins_anew_after_every_page_holds_what_a_rebuild_holds(cluster: Cluster) -> None:
    world = await community(150)
    runner, begun = world.runner(usage.VIEW, cluster), 0
    await world.kept.prepare(usage.VIEW)
    async with relaying(world.stores.values(), cluster, TwicePublisher), asyncio.timeout(SECONDS):
        while not await world.caught_up(usage.VIEW):
            subscription = await runner.subscribe()
            begun += 1
            page = await subscription.fetch(5)
            if page is not None:
                await runner.take(page)
            await subscription.close()
    assert begun > 2
    await world.assert_as_rebuilt(usage.VIEW)


class ForgetfulPublisher(Publisher):
    """Loses the second fact of the only partition, as no relay should."""

    async def facts(self, page: Sequence[Notification], traces: Mapping[int, str] = NO_TRACES) -> list[Delivery]:
        before = await super().facts(page[:1], traces)
        self._sent[0] = page[1].id
        return before + await super().facts(page[2:], traces)


async def test_a_fact_missing_between_two_others_stops_the_consumer(cluster: Cluster) -> None:
    world, cluster = await community(100), replace(cluster, partitions=1)
    async with relaying([world.stores["metering"]], cluster, ForgetfulPublisher):
        with pytest.raises(
            ChannelGap, match=r"has reached position 1 of kafka/.*follows position 2: records are missing"
        ):
            await asyncio.wait_for(world.runner(usage.VIEW, cluster).run(), SECONDS)


async def test_watermarks_let_at_least_end_on_partitions_where_nothing_happens(cluster: Cluster) -> None:
    world = await community(0)
    view = next(view for view in views() if view.name == "balances")
    async with relaying(world.stores.values(), cluster), running([world.runner(view, cluster)]):
        await world.all_caught_up([view])
        reader = ViewReader(world.kept, wait_seconds=5)
        for number in range(5):
            await world.history.record(posted("pool/community", "member/1", 5, number))
            head = (await world.heads(view))["treasury"]
            begun = asyncio.get_running_loop().time()
            async with reader.moment(view, QueryContext(None, {"treasury": head})) as moment:
                assert moment.positions["treasury"] >= head
            assert asyncio.get_running_loop().time() - begun < 3
        with pytest.raises(NotCaughtUp):
            async with ViewReader(world.kept, wait_seconds=0.3).moment(
                view, QueryContext(None, {"treasury": head + 1})
            ):
                pass
        channels = set(await world.kept.checkpoints(view.follower))
    assert len(channels) == cluster.partitions, "every partition has told how far it is"


async def test_a_view_that_followed_the_stores_goes_on_where_it_stood(cluster: Cluster) -> None:
    world = await community(100)
    async with running([ViewRunner(usage.VIEW, world.kept, TailBus(world.stores), catalog())]):
        await world.all_caught_up([usage.VIEW])
    await world.history.record(*(e for e in a_community(Random(9), 100) if e[1].TYPE.startswith("metering.")))
    async with relaying(world.stores.values(), cluster), running([world.runner(usage.VIEW, cluster)]):
        await world.all_caught_up([usage.VIEW])
    await world.assert_as_rebuilt(usage.VIEW)
    with pytest.raises(OtherBus, match="has followed kafka/"):
        await ViewRunner(usage.VIEW, world.kept, TailBus(world.stores), catalog()).run()


async def test_a_rebuild_stands_exactly_where_the_live_view_stands_on_every_partition(cluster: Cluster) -> None:
    world = await community(400)
    view = usage.VIEW
    runner = world.runner(view, cluster)
    await world.kept.prepare(view)
    async with relaying(world.stores.values(), cluster):
        subscription = await runner.subscribe()
        for _ in range(3):  # some partitions are far, others have not begun
            page = await subscription.fetch(5)
            assert page is not None
            await runner.take(page)
        standing = await world.kept.checkpoints(view.follower)
        assert len({at.position for at in standing.values()}) > 1
        checked = await Rebuild(view, world.kept, world.stores, catalog()).check()
        assert (checked.equal, checked.hash_before) == (True, checked.hash_after)
        report = await rebuild(view, world.kept, world.stores, catalog())
        assert report.equal
        assert await world.kept.checkpoints(view.follower) == standing
        await subscription.close()
        async with running([world.runner(view, cluster)]):
            await world.all_caught_up([view])
    await world.assert_as_rebuilt(view)
