"""What `/metrics` tells: Prometheus text that its own parser reads, with every number the operator's table names."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.platform import open_platform
from infra.serving import health_beside
from infra.settings import SettingRefused, read_settings
from infra.telemetry.metrics import METRICS
from tests.instance import free_port
from tests.traced import PATH, Traced, traced

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
ROW = re.compile(r"^\| `(commons_\w+)` \| (counter|gauge|histogram) \| (.*?) \| (.*?) \|$", re.MULTILINE)

Told = dict[str, tuple[str, dict[tuple[tuple[str, str], ...], float]]]


def read(text: str) -> Told:
    """Return kind and values by metric; of a histogram its counts."""
    found: Told = {}
    for family in text_string_to_metric_families(text):
        wanted = {"counter": f"{family.name}_total", "histogram": f"{family.name}_count"}.get(family.type, family.name)
        values = {tuple(sorted(each.labels.items())): each.value for each in family.samples if each.name == wanted}
        found[family.name] = (family.type, values)
    return found


async def told(world: Traced) -> Told:
    answer = await world.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return read(answer.text)


def test_the_operators_table_is_the_one_of_the_code() -> None:
    rows = ROW.findall(OPERATIONS.read_text())
    code = [(m.name, m.kind, ", ".join(f"`{each}`" for each in m.labels) or "-", m.meaning) for m in METRICS]
    assert rows == code


async def test_every_number_of_the_table_is_told_with_its_kind_and_labels(database: str, tmp_path: Path) -> None:
    async with traced(database, tmp_path) as world:
        raw, headers = await world.registration("ada")
        statuses = [(await world.send(raw, headers)).status_code for _ in range(2)]
        assert statuses == [200, 401], "the second is a replay"
        assert (await world.register("ada")).status_code == 409
        assert (await world.get("/v1/nobody/knows/this")).status_code == 404
        await world.caught_up()
        found = await told(world)
    for metric in METRICS:
        if metric.name.startswith("commons_relay_"):  # nothing is relayed here
            continue
        kind, values = found[metric.name]
        assert kind == metric.kind, metric.name
        assert {tuple(name for name, _ in labels) for labels in values} == {tuple(sorted(metric.labels))}, metric.name
    assert found["commons_nonces_taken"][1][()] == 2
    assert found["commons_nonces_replayed"][1][()] == 1
    requests = found["commons_http_requests"][1]
    assert requests[("method", "POST"), ("route", PATH), ("status", "200")] == 1
    assert requests[("method", "GET"), ("route", "other"), ("status", "404")] == 1
    refusals = found["commons_refusals"][1]
    assert sum(refusals.values()) == 1
    assert set(found["commons_follower_lag_facts"][1].values()) == {0}


async def test_facts_are_counted_where_they_are_appended_and_folded(database: str, tmp_path: Path) -> None:
    async with traced(database, tmp_path) as world:
        before = await told(world)
        heads = {name: (await store.head()).position for name, store in world.platform.stores.items()}
        for name in ("ada", "bob"):
            assert (await world.register(name)).status_code == 200
        await world.caught_up()
        after = {name: (await store.head()).position for name, store in world.platform.stores.items()}
        found = read((await fresh(world)).text)
    for service in ("registry", "treasury"):
        key = (("service", service),)
        grown = found["commons_facts_appended"][1][key] - before["commons_facts_appended"][1][key]
        assert grown == after[service] - heads[service] > 0, service
    folded = found["commons_view_facts"][1][(("view", "members"),)]
    assert folded >= after["registry"] - heads["registry"]


async def fresh(world: Traced) -> httpx.Response:
    """Ask again, once the last answer has had its second."""
    await asyncio.sleep(1.1)
    return await world.get("/metrics")


async def test_a_process_without_the_edge_answers_at_an_address_of_its_own(database: str, tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    settings = read_settings(
        {"COMMONS_HOME": str(tmp_path), "COMMONS_DATABASE": database, "COMMONS_METRICS_LISTEN": listen}
    )
    async with (
        open_platform(settings, database) as platform,
        health_beside(platform, ["follow"]),
        health_beside(platform, ["clock"]),  # its address is taken, which it says in the log: work goes on
        httpx.AsyncClient(base_url=f"http://{listen}", trust_env=False) as client,
    ):
        assert "commons_queue_commands" in read((await client.get("/metrics")).text)
        assert (await client.get("/health/live")).json() == {"status": "live"}
        assert (await client.get("/health/ready")).json() == {"status": "ready"}
        assert (await client.get("/v1/keys")).status_code == 404


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COMMONS_TELEMETRY", "collector:4317"),
        ("COMMONS_TELEMETRY", "otlp://collector"),
        ("COMMONS_TELEMETRY", "jaeger://collector:4317"),
        ("COMMONS_METRICS_LISTEN", "9464"),
    ],
)
def test_a_setting_that_names_no_address_is_refused(name: str, value: str) -> None:
    with pytest.raises(SettingRefused, match=name):
        read_settings({name: value})
