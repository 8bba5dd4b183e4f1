"""The benchmarks on Kafka run at tiny sizes and tell figures; whether floors hold is for `commons bench`."""

from __future__ import annotations

from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]

from events.channels import partition_channel, partition_of
from events.store import Checkpoint
from infra.bench.brokers import brokers
from infra.bench.consumer import bench_consumer
from infra.bench.flow import SHARES, STREAM, Seen, bench_flow
from infra.bench.relay import bench_relay
from infra.bench.rounds import Figure
from tests.kafka_source import KafkaSource, skip_unless_real


@pytest.fixture(autouse=True)
def _brokers(kafka: KafkaSource, monkeypatch: pytest.MonkeyPatch) -> None:
    skip_unless_real(kafka)
    monkeypatch.setenv("COMMONS_TEST_KAFKA", kafka.bootstrap)


def assert_told(figure: Figure) -> None:
    assert figure.ours > 0
    assert figure.baseline > 0
    assert figure.ratio == figure.ours / figure.baseline


async def topics(kafka: KafkaSource) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    try:
        await admin.start()
        return [name for name in await admin.list_topics() if name.startswith("bench-")]
    finally:
        await admin.close()


@pytest.mark.soak
async def test_the_relay_is_measured_beside_both_ways_of_a_bare_producer(
    database: str, tmp_path: Path, kafka: KafkaSource
) -> None:
    async with brokers(tmp_path) as cluster:
        figures = await bench_relay(database, cluster, rounds=1, facts=600)
    assert [figure.floor for figure in figures] == ["ratio >= 0.70", ""]
    for figure in figures:
        assert_told(figure)
    assert await topics(kafka) == []


async def test_a_consumer_is_measured_beside_the_same_view_along_the_store(database: str, tmp_path: Path) -> None:
    async with brokers(tmp_path) as cluster:
        assert_told(await bench_consumer(database, cluster, streams=5, rounds=1, facts=6_000))


@pytest.mark.soak
async def test_the_whole_way_is_measured_at_every_share_of_saturation(tmp_path: Path, kafka: KafkaSource) -> None:
    figures = await bench_flow(tmp_path, lambda _line: None, rounds=1, seconds=0.2, commands=16)
    assert len(figures) == 1 + 3 * len(SHARES)
    for figure in figures:
        assert_told(figure)
    assert await topics(kafka) == []


def test_visible_is_the_book_s_partition_and_answerable_the_lowest_one() -> None:
    follower, seen = "view/balances.v1", Seen()

    def at(positions: dict[int, int]) -> dict[str, Checkpoint]:
        channels = {partition_channel("treasury.events", 1, part, 6): at for part, at in positions.items()}
        return {channel: Checkpoint(follower, channel, position, b"") for channel, position in channels.items()}

    book = partition_of(STREAM, 6)
    others = dict.fromkeys(set(range(6)) - {book}, 40)
    seen.look({})
    seen.look(at(others))
    seen.look(at({**others, book: 30}))
    seen.look(at({**others, book: 45}))
    seen.look({"treasury": Checkpoint(follower, "treasury", 50, b"")})
    assert [position for _, position in seen.visible] == [0, 0, 30, 45, 50]
    assert [position for _, position in seen.at_least] == [0, 0, 30, 40, 50]
    seen.clear()
    assert seen.visible == seen.at_least == []
