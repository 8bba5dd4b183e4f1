"""Processes of `commons up` on Kafka: they share a view's partitions, obey commands, leave when they are stopped."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from events.channels import positions_by_service
from events.facts import catalog
from infra.kafka.topics import Cluster
from infra.postgres.pool import open_pool
from infra.postgres.store import open_stores
from infra.postgres.views import PostgresViews
from projections import usage
from projections.rebuild import Rebuild, RebuildReport
from tests.history import History, readings
from tests.instance import free_port
from tests.kafka_source import KafkaSource, skip_unless_real
from tests.roles import Roles, settings

FOLLOWERS = ("one", "two", "three")
RELAY = "relay:metering"
NODES = 24
SECONDS = 60


class Shared(Roles):
    """A relay and three processes that follow for metering, each with an address for its numbers."""

    recorded = 0

    def begin(self) -> None:
        self.addresses = {name: f"127.0.0.1:{free_port()}" for name in (*FOLLOWERS, RELAY)}
        self.start_role(RELAY, environ={"COMMONS_METRICS_LISTEN": self.addresses[RELAY]})
        for name in FOLLOWERS:
            self.start_role("follow:metering", name, {"COMMONS_METRICS_LISTEN": self.addresses[name]})
        deadline = time.monotonic() + SECONDS
        while not all(self.stands(name) for name in FOLLOWERS):
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.2)

    def stands(self, process: str) -> bool:
        """Tell whether a process has all views, so that none is built from what is recorded next."""
        return bool(self.number(process, "commons_view_parked_facts", follower=usage.VIEW.follower) == 0)

    def number(self, process: str, metric: str, **labels: str) -> float:
        """One number of a process, -1 while it does not answer yet, 0 while it has none."""
        try:
            text = httpx.get(f"http://{self.addresses[process]}/metrics", timeout=10, trust_env=False).text
        except httpx.TransportError:
            return -1
        families = text_string_to_metric_families(text)
        found = [each for family in families for each in family.samples if each.name == metric]
        return next((each.value for each in found if each.labels.items() >= labels.items()), 0)

    def facts(self, process: str) -> float:
        return self.number(process, "commons_view_facts_total", view="usage")

    def record(self, count: int) -> None:
        """Record readings of many nodes, behind the services' backs."""

        async def main() -> None:
            async with open_stores(self.extra["COMMONS_DATABASE"], ["metering"]) as stores:
                history = History(stores)
                for number in range(NODES):
                    stream = readings(number, 0, [])[0]
                    history.versions["metering", stream] = len(await stores["metering"].read_stream(stream))
                first = self.recorded
                await history.record(
                    *(readings(n % NODES, n, [(n * 60_000, n * 60_000 + 60_000)]) for n in range(first, first + count))
                )

        asyncio.run(main())
        self.recorded += count

    def wait_for_all(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self.far():
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.2)

    def far(self) -> bool:
        async def main() -> bool:
            pool = await open_pool(self.extra["COMMONS_DATABASE"], size=1)
            try:
                points = await PostgresViews(pool).checkpoints(usage.VIEW.follower)
            finally:
                await pool.close()
            return positions_by_service(points).get("metering", 0) == self.recorded

        return asyncio.run(main())

    def checked(self) -> RebuildReport:
        async def main() -> RebuildReport:
            dsn = self.extra["COMMONS_DATABASE"]
            pool = await open_pool(dsn, size=4, by_key=False)
            try:
                async with open_stores(dsn, ["metering"]) as stores:
                    return await Rebuild(usage.VIEW, PostgresViews(pool), stores, catalog()).check()
            finally:
                await pool.close()

        return asyncio.run(main())


@pytest.fixture
def shared(tmp_path: Path, database: str, kafka: KafkaSource, cluster: Cluster) -> Iterator[Shared]:
    skip_unless_real(kafka)
    made = Shared(tmp_path / "home", extra=settings(cluster, database))
    try:
        yield made
    finally:
        made.kill_everything()


@pytest.mark.soak
def test_three_processes_share_a_view_and_the_others_take_over_from_one_that_is_stopped(shared: Shared) -> None:
    shared.begin()
    deadline = time.monotonic() + SECONDS
    while not all(shared.facts(name) for name in FOLLOWERS):
        shared.record(100)
        assert time.monotonic() < deadline, shared.log()
        time.sleep(0.5)
    shared.wait_for_all(30)
    assert sum(shared.facts(name) for name in FOLLOWERS) == shared.recorded, "each fact was folded by one of them"
    assert shared.number(RELAY, "commons_relay_position", service="metering") == shared.recorded
    assert shared.number(RELAY, "commons_relay_lag_facts", service="metering") == 0
    assert shared.number(RELAY, "commons_relay_facts_total", service="metering") == shared.recorded

    assert shared.stop_role("two", signal.SIGTERM) == 0
    shared.record(500)
    shared.wait_for_all(8)  # a member that had not left would be waited for longer than this
    report = shared.checked()
    assert (report.equal, report.parked) == (True, 0)
    assert shared.json("followers", "pause", "usage") == {"followers": [usage.VIEW.follower], "paused": True}
    time.sleep(3)
    shared.record(50)
    time.sleep(1)
    (row,) = [each for each in shared.json("followers", "list")["followers"] if each["follower"] == usage.VIEW.follower]
    assert (row["paused"], row["position"], row["behind"]) == (True, shared.recorded - 50, 50)
    shared.json("followers", "resume", "view/usage")
    shared.wait_for_all(15)
    refused = shared.commons("followers", "rewind", "usage", "--to", "0")
    assert (refused.returncode, "run 'commons rebuild usage'" in refused.stderr) == (1, True)
    assert shared.statuses() == {RELAY: 0, "one": 0, "three": 0}
