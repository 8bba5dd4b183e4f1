"""The agent against a server that goes away, loses answers, and has another clock: nothing lost, nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from infra.agent.home import AgentHome
from infra.agent.link import Away
from infra.agent.run import Agent
from services.kernel.jws import raw_public
from services.metering.batches import read_batch
from tests.agent_given import DEVICE, HOUR, HOUR_MS, LEASE, START, HandClock, HandGpus, agent_home, an_agent, lease_row
from tests.agent_server import AgentServer
from tests.agent_turns import MINUTE, live, turn, whole


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def server(tmp_path: Path, clock: HandClock) -> Iterator[AgentServer]:
    key = AgentHome(tmp_path / "agent").key
    made = AgentServer(clock, key.node, raw_public(key.private), [lease_row()])
    yield made
    made.close()


@pytest.fixture
def home(tmp_path: Path, server: AgentServer) -> AgentHome:
    return agent_home(tmp_path / "agent", server.url)


async def test_readings_and_heartbeats_arrive(server: AgentServer, home: AgentHome, clock: HandClock) -> None:
    agent = an_agent(home, server.url, clock)
    await live(agent, clock, 5)
    assert whole(server.counted()) == (START, START + 5 * MINUTE)
    assert server.counted()[0] == (DEVICE, LEASE, START, START + MINUTE, 500)
    assert sorted(server.minutes) == [START // MINUTE + i for i in range(6)]
    await agent._end()


async def test_an_outage_in_the_hour_costs_nothing(server: AgentServer, home: AgentHome, clock: HandClock) -> None:
    agent = an_agent(home, server.url, clock)
    await live(agent, clock, 5)
    server.away = True
    await live(agent, clock, 30)
    assert "server" in agent.troubles.now
    server.away = False
    await live(agent, clock, 5)
    assert whole(server.counted()) == (START, START + 40 * MINUTE)
    assert agent.troubles.now == {}
    assert not server.proved
    await agent._end()


async def test_a_late_hour_travels_whole_and_is_proved_by_its_hash(
    server: AgentServer, home: AgentHome, clock: HandClock
) -> None:
    agent = an_agent(home, server.url, clock)
    await live(agent, clock, 2)
    server.away = True
    await live(agent, clock, 100)
    server.away = False
    await live(agent, clock, 30)
    assert whole(server.counted()) == (START, START + 132 * MINUTE)
    assert list(server.proved) == [HOUR]
    assert int(server.hours[HOUR]["minutes"], 16) == 0b111
    await agent._end()


async def test_an_outage_of_days_loses_no_reading_from_the_spool(
    server: AgentServer, home: AgentHome, clock: HandClock
) -> None:
    server.leases = [lease_row(end_ms=START + 48 * HOUR_MS)]
    agent = an_agent(home, server.url, clock)
    await turn(agent)
    server.away = True
    for _ in range(2 * 24 * 12):
        clock.move(5 * MINUTE)
        await agent._tick()
    server.away = False
    await live(agent, clock, 130)
    assert agent.sender.unacknowledged() == 0
    lines = [line for hour in agent.books.spool.hours() for line in agent.books.spool.lines(hour)]
    assert len(lines) == 48 * 60
    assert set(server.hours) >= {HOUR + 47, HOUR + 48}
    await agent._end()


async def test_an_answer_that_got_lost_makes_a_duplicate_and_no_second_batch(
    server: AgentServer, home: AgentHome, clock: HandClock
) -> None:
    agent = an_agent(home, server.url, clock)
    await live(agent, clock, 3)
    batches = len(server.batches)
    clock.move(MINUTE)
    await agent._tick()
    server.lose_answers = 1
    with suppress(Away):
        await agent._send()
    clock.move(2 * MINUTE)
    await agent._tick()
    await agent.link.close()
    again = an_agent(home, server.url, clock)  # killed at this moment, and started again
    await turn(again)
    assert server.duplicates == 1
    assert len(server.batches) == batches + 2
    assert whole(server.counted()) == (START, START + 6 * MINUTE)
    await again._end()


async def test_a_restart_goes_on_without_gap_and_a_reboot_vouches_for_nothing_while_it_was_away(
    server: AgentServer, home: AgentHome, clock: HandClock
) -> None:
    first = an_agent(home, server.url, clock)
    await live(first, clock, 3)
    await first.link.close()
    clock.move(2 * MINUTE)
    second = an_agent(home, server.url, clock)
    await turn(second)
    assert whole(server.counted()) == (START, START + 5 * MINUTE)
    await second.link.close()
    clock.move(2 * MINUTE)
    rebooted = an_agent(home, server.url, clock, booted_ms=clock.now_ms() - 1_000)
    await live(rebooted, clock, 2)
    spans = [(reading[2] - START, reading[3] - START) for reading in server.counted()]
    assert spans[-2:] == [(7 * MINUTE, 8 * MINUTE), (8 * MINUTE, 9 * MINUTE)]
    assert spans[-3] == (4 * MINUTE, 5 * MINUTE)
    await rebooted._end()


async def test_a_device_that_is_gone_reads_zero(server: AgentServer, home: AgentHome, clock: HandClock) -> None:
    gpus = HandGpus()
    agent = an_agent(home, server.url, clock, gpus=gpus)
    await live(agent, clock, 1)
    gpus.there = False
    await live(agent, clock, 1)
    gpus.there = True
    await live(agent, clock, 2)
    assert [reading[4] for reading in server.counted()] == [500, 0, 0, 500], "gone at the first moment of the third"
    await agent._end()


async def test_a_clock_that_is_off_signs_no_readings_but_beats(
    server: AgentServer, home: AgentHome, clock: HandClock
) -> None:
    said: list[str] = []
    agent = an_agent(home, server.url, clock, said=said)
    await live(agent, clock, 2)
    server.ahead_ms = 8_000
    await turn(agent)
    known = len(server.counted())
    await live(agent, clock, 2)
    assert len(server.counted()) == known
    assert "8.0 s behind the server's" in agent.troubles.now["clock"]
    assert START // MINUTE + 4 in server.minutes
    server.ahead_ms = 0
    await turn(agent)
    await live(agent, clock, 1)
    assert whole(server.counted()) == (START, START + 5 * MINUTE)
    assert said[-1] == "clock: well again"
    await agent._end()


async def test_a_spool_altered_by_one_byte_is_not_sent(server: AgentServer, home: AgentHome, clock: HandClock) -> None:
    agent = an_agent(home, server.url, clock)
    server.away = True
    agent.books.meter.leases = (await _leases(agent, server))[:1]
    await live(agent, clock, 3)
    await agent.link.close()
    path = home.path / "spool" / f"{HOUR}.spool"
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b",500]", b",900]", 1))
    server.away = False
    again = an_agent(home, server.url, clock)
    await turn(again)
    assert server.batches == {}
    assert "altered" in again.troubles.now[f"spool of hour {HOUR}"]
    await again._end()


async def test_energy_travels_with_readings_and_names_its_meter(
    server: AgentServer, home: AgentHome, clock: HandClock
) -> None:
    agent = an_agent(home, server.url, clock)
    await live(agent, clock, 5)
    energy = [one for jws in server.batches.values() for one in read_batch(jws).energy]
    assert energy == [
        (START + i * MINUTE, START + (i + 1) * MINUTE, 3_333 + (i % 3 == 2), "nvml:" + "d" * 32) for i in range(5)
    ]
    await agent._end()


async def test_a_stop_writes_the_slice_under_way_and_sends_it(
    server: AgentServer, home: AgentHome, clock: HandClock
) -> None:
    agent = an_agent(home, server.url, clock)
    await turn(agent)
    clock.move(90_000)
    await agent._end()
    assert whole(server.counted()) == (START, START + 90_000)
    again = an_agent(home, server.url, clock)
    clock.move(30_000)
    await turn(again)
    assert whole(server.counted()) == (START, START + 120_000)
    await again._end()


async def _leases(agent: Agent, server: AgentServer) -> tuple[object, ...]:
    server.away, before = False, server.away
    await agent._poll()
    server.away = before
    return agent.books.meter.leases
