"""From the stores to Kafka and back: never by a setting alone, and no fact is folded twice on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from events.bus import OtherBus
from events.channels import positions_by_service
from events.facts import catalog
from infra.buses import bus_name, cluster_of, move_to_bus, refuse_another_bus
from infra.kafka.bus import KafkaBus
from infra.kafka.topics import Cluster
from infra.postgres.view_bus import BusChanged, NotDrained, moved_rows
from infra.settings import Settings, read_settings
from infra.tail import TailBus
from projections import balances
from projections.rebuild import Rebuild
from projections.runner import ViewRunner
from tests import history
from tests.following import World, open_world
from tests.kafka_source import KafkaSource, skip_unless_real
from tests.relaying import relaying

VIEW = balances.VIEW


@pytest.fixture(autouse=True)
def _real(kafka: KafkaSource) -> None:
    skip_unless_real(kafka)


@pytest.fixture
async def world(database: str) -> AsyncIterator[World]:
    async with open_world(database) as opened:
        yield opened


def chosen(tmp_path: Path, database: str, cluster: Cluster | None = None) -> Settings:
    given = {"COMMONS_HOME": str(tmp_path), "COMMONS_DATABASE": database}
    if cluster is not None:
        given |= {"COMMONS_BUS": f"kafka://{cluster.bootstrap}", "COMMONS_KAFKA_PREFIX": cluster.prefix}
    return read_settings(given)


@asynccontextmanager
async def following(world: World, bus: TailBus | KafkaBus) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(ViewRunner(VIEW, world.views, bus, catalog()).run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def caught_up(world: World, channels: int) -> None:
    """Wait until the view reflects everything, on that many channels."""
    head = (await world.heads())["treasury"]
    async with asyncio.timeout(30):
        while True:
            found = await world.views.checkpoints(VIEW.follower)
            if positions_by_service(found).get("treasury", 0) >= head and len(found) == channels:
                return
            await asyncio.sleep(0.05)


async def test_a_move_to_kafka_and_back_folds_every_fact_once(
    world: World, database: str, cluster: Cluster, tmp_path: Path
) -> None:
    tail, kafka = chosen(tmp_path, database), chosen(tmp_path, database, cluster)
    assert cluster_of(kafka) == cluster
    await refuse_another_bus(tail, database)
    await world.history.record(*(history.posted("a", f"member/{n}", 1, n) for n in range(30)))
    async with relaying(world.stores.values(), cluster):
        async with following(world, TailBus(world.stores)) as left_behind:
            await caught_up(world, 1)
            with pytest.raises(BusChanged, match=r"follow tail:, the settings choose kafka:.*commons views move"):
                await refuse_another_bus(kafka, database)
            assert await move_to_bus(kafka, database) == 1
            await world.history.record(*(history.posted("a", f"member/{n}", 1, 100 + n) for n in range(30)))
            with pytest.raises(OtherBus):  # who was not stopped stops now
                await asyncio.wait_for(left_behind, 20)
        await refuse_another_bus(kafka, database)
        async with following(world, KafkaBus(cluster, world.stores)):
            await caught_up(world, cluster.partitions)
        with pytest.raises(BusChanged):
            await refuse_another_bus(tail, database)
        assert await move_to_bus(tail, database) == 1
    await world.history.record(history.posted("a", "member/1", 1, 999))
    async with following(world, TailBus(world.stores)):
        await caught_up(world, 1)
    assert (await Rebuild(VIEW, world.views, world.stores, catalog()).check()).equal


async def test_a_database_followed_before_buses_were_noted_was_followed_along_its_stores(
    world: World, database: str, cluster: Cluster, tmp_path: Path
) -> None:
    await world.history.record(history.posted("a", "b", 1, 1))
    async with world.following(VIEW):
        await world.caught_up(VIEW)
    with pytest.raises(BusChanged, match="follow tail:"):
        await refuse_another_bus(chosen(tmp_path, database, cluster), database)


def test_another_generation_is_another_bus(cluster: Cluster, tmp_path: Path) -> None:
    names = {bus_name(chosen(tmp_path, "embedded:")), bus_name(chosen(tmp_path, "embedded:", cluster))}
    later = read_settings({"COMMONS_BUS": "kafka://x:1", "COMMONS_KAFKA_GENERATION": "2"})
    assert len(names | {bus_name(later)}) == 3


def test_partitions_that_are_not_equally_far_cannot_be_moved(cluster: Cluster) -> None:
    even = [("view/x", cluster.channel("treasury", number), 7, b"7") for number in range(6)]
    assert moved_rows(even, lambda service: [service]) == [("view/x", "treasury", 7, b"7")]
    with pytest.raises(NotDrained, match="positions 7, 8 of treasury"):
        moved_rows([*even[:5], ("view/x", cluster.channel("treasury", 5), 8, b"8")], lambda service: [service])
    with pytest.raises(NotDrained, match="positions 0, 7 of treasury"):
        moved_rows(even[:5], lambda service: [service])
