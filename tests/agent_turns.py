"""An agent's loops, turned by hand, and what its readings have to look like afterwards."""

from __future__ import annotations

import itertools

from infra.agent.run import Agent
from tests.agent_given import HandClock

MINUTE = 60_000


async def turn(agent: Agent) -> None:
    """Do everything once, as the loops do."""
    works = (("server", agent._poll), ("disk", agent._tick), ("server", agent._beat), ("server", agent._send))
    for subject, work in works:
        await agent._tried(subject, work)


async def live(agent: Agent, clock: HandClock, minutes: int) -> None:
    for _ in range(minutes):
        await turn(agent)
        clock.move(MINUTE)
    await turn(agent)


def whole(readings: list[tuple[str, str, int, int, int]]) -> tuple[int, int]:
    """The span of readings that follow each other without gap, overlap or repetition."""
    assert all(one[3] == two[2] for one, two in itertools.pairwise(readings))
    assert {reading[4] for reading in readings} == {500}
    return readings[0][2], readings[-1][3]
