"""The agent where something is wrong around it: what answers is no instance, its files were swapped, it was frozen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.agent.heartbeats import KEPT_HOURS
from infra.agent.home import AgentHome
from services.kernel.jws import raw_public
from tests.agent_given import HOUR, START, HandClock, agent_home, an_agent, lease_row
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


@pytest.mark.parametrize(
    "instead",
    [
        (200, "<html>sign in to this network</html>"),
        (200, "{}"),
        (200, "[]"),
        (302, "<html>this way</html>"),
        (403, "[1]"),
        (405, '{"type":'),
        (511, ""),
    ],
)
async def test_what_no_instance_answers_is_an_outage_and_costs_nothing(
    server: AgentServer, home: AgentHome, clock: HandClock, instead: tuple[int, str]
) -> None:
    agent = an_agent(home, server.url, clock)
    await live(agent, clock, 40)
    server.instead = instead
    await live(agent, clock, 40)
    assert "server" in agent.troubles.now
    assert agent.books.cursor.hour(HOUR).sealed is not None, "it was tried in vain to tell the hour"
    server.instead = None
    await live(agent, clock, 2)
    assert server.hours.keys() == {HOUR}
    assert whole(server.counted()) == (START, START + 82 * MINUTE)
    await agent._end()


async def test_a_stop_vouches_for_no_time_in_which_the_agent_was_frozen(
    server: AgentServer, home: AgentHome, clock: HandClock
) -> None:
    agent = an_agent(home, server.url, clock)
    await live(agent, clock, 2)
    clock.move(30 * MINUTE)
    await agent._end()
    assert whole(server.counted()) == (START, START + 2 * MINUTE)


async def test_a_stop_right_after_the_clock_was_set_writes_nothing(
    server: AgentServer, home: AgentHome, clock: HandClock
) -> None:
    agent = an_agent(home, server.url, clock)
    await live(agent, clock, 2)
    clock.wall_ms += 4 * MINUTE
    await agent._end()
    assert whole(server.counted()) == (START, START + 2 * MINUTE)


@pytest.mark.parametrize("raw", [b"no reading\n", b"\xff\x00\n", b"{}\n[]\n"])
async def test_a_file_that_is_no_spool_is_not_sent_and_stops_nothing(
    server: AgentServer, home: AgentHome, clock: HandClock, raw: bytes
) -> None:
    (home.path / "spool").mkdir()
    (home.path / "spool" / f"{HOUR - 1}.spool").write_bytes(raw)
    agent = an_agent(home, server.url, clock)
    await live(agent, clock, 3)
    assert "altered" in agent.troubles.now[f"spool of hour {HOUR - 1}"]
    assert whole(server.counted()) == (START, START + 3 * MINUTE)
    await agent._end()


async def test_receipts_are_kept_for_35_days_and_no_longer(
    server: AgentServer, home: AgentHome, clock: HandClock
) -> None:
    agent = an_agent(home, server.url, clock)
    old, young = (home.path / "receipts" / f"{HOUR - KEPT_HOURS - past}.jsonl" for past in (1, 0))
    old.touch()
    young.touch()
    await turn(agent)
    assert (old.exists(), young.exists()) == (False, True)
    await agent._end()
