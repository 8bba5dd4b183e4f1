"""Followers whose brokers go away say so once, and once that they are back, however many there are."""

from __future__ import annotations

import asyncio

import pytest

from events.bus import Follower
from infra.kafka.bus import KafkaBus
from infra.kafka.outage import Outage
from infra.kafka.topics import BrokersAway, Cluster
from infra.memory import MemoryStore
from tests.instance import free_port


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message.partition(",")[0] for record in caplog.records if "brokers are" in record.message]


async def test_an_outage_is_said_once_and_its_end_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.kafka.outage.KNOCK_SECONDS", 0.2)
    port = free_port()
    outage = Outage(f"127.0.0.1:{port}")
    for _ in range(3):
        await outage.look()
        await asyncio.sleep(0.25)
    assert said(caplog) == ["the brokers are away"]
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", port)
    async with server:
        for _ in range(3):
            await outage.look()
            await asyncio.sleep(0.25)
    assert said(caplog) == ["the brokers are away", "the brokers are back"]


async def test_followers_that_find_no_broker_say_it_together(caplog: pytest.LogCaptureFixture) -> None:
    async def nothing() -> dict[str, object]:
        return {}

    bus = KafkaBus(Cluster(f"127.0.0.1:{free_port()}"), {"toy": MemoryStore("toy")})
    for name in ("one", "two"):
        with pytest.raises(BrokersAway):
            await bus.subscribe(Follower(name, ["toy"], nothing))  # type: ignore[arg-type] # nothing is nothing
    assert said(caplog) == ["the brokers are away"]
