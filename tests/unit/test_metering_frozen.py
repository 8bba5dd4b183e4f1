"""What was leased in an epoch keeps the factors of its close, also where nothing was counted in time."""

from __future__ import annotations

from typing import Any

import pytest

from events.genesis import MeteringRules
from events.metering import EpochPaged, LateUsageScored
from services.kernel.snapshot import freeze, thaw
from services.metering.state import Metering, Paid
from tests.heartbeat_world import adopt, hash_of, hour_of, late_batch, record_hour
from tests.metering_world import HOUR, MINUTE, NOW_MS, World, device, node

NODE = "one"


def scored(delay_ms: int) -> tuple[World, list[int]]:
    """An hour's readings on a node whose hour before kept all heartbeats; what they score in time and late.

    Epochs of an hour close at their end, so that the close of the second one does not know the first one's hour yet.
    """
    world = World(epoch_seconds=3_600, close_after_seconds=0, rules=MeteringRules(availability_trials=True))
    world.with_node(NODE).results(NODE, 0, "T4", ["5600"] * 6, NOW_MS - MINUTE)
    adopt(world, NODE, NOW_MS)
    first, start = world.spec.state.first_live, NOW_MS + HOUR
    lease = world.lease("a", start, start + HOUR)
    rows = [(device(NODE), lease.lease, at, at + 5 * MINUTE, 1_000) for at in range(start, start + HOUR, 5 * MINUTE)]
    world.at(start)
    facts = list(world.close(first))
    record_hour(world, NODE, hour_of(NOW_MS))
    if not delay_ms:
        world.at(start + HOUR - MINUTE).record(NODE, *rows)
    facts += world.at(start + HOUR).close(first + 1)
    if delay_ms:
        world.at(start + HOUR + delay_ms).record(NODE, *rows)
    facts += world.at(start + 2 * HOUR).close(first + 2)
    pages = [fact for fact in facts if isinstance(fact, EpochPaged | LateUsageScored) and fact.epoch == first + 1]
    return world, [int(one.micro_rgpu_hours) for page in pages for one in page.nodes]


def test_a_delay_past_the_close_never_lets_trials_count_that_the_close_did_not_know() -> None:
    _, in_time = scored(0)
    _, late = scored(MINUTE)
    assert in_time[0] > 0
    assert late[0] == 0, "nothing was counted at the close"
    assert sum(late) == sum(in_time), "the factors are those of the close"


@pytest.mark.parametrize("delay", [0, MINUTE])
def test_the_factors_of_what_was_leased_stand_after_the_close(delay: int) -> None:
    world, _ = scored(delay)
    state = world.spec.state
    paid = state.paid[state.first_live + 1][node(NODE), device(NODE), "infer"]
    assert paid == Paid(1_000 * HOUR, 10_000, 211_324)
    assert thaw(freeze(state), Metering) == state


def test_the_freezing_of_factors_asks_nothing_of_leases_that_never_earn() -> None:
    world = World(epoch_seconds=3_600, close_after_seconds=0).with_member("kin", "users").with_node(NODE, owner="kin")
    assert world.lease("a", NOW_MS, NOW_MS + HOUR).linked == "guild"
    world.at(NOW_MS + HOUR).close(world.spec.state.next_live)
    assert not world.spec.state.paid.get(world.spec.state.first_live)


def spooled(hours_later: int) -> int:
    """What an hour's spool scores that comes so many hours late; after a challenge failed, more are passed."""
    world = World(epoch_seconds=3_600, close_after_seconds=0).with_node(NODE)
    world.results(NODE, 0, "T4", ["5600"] * 6, NOW_MS - MINUTE)
    lease = world.lease("a", NOW_MS, NOW_MS + HOUR)
    rows = [(device(NODE), lease.lease, at, at + 5 * MINUTE, 1_000) for at in range(NOW_MS, NOW_MS + HOUR, 5 * MINUTE)]
    facts: list[Any] = []
    for hour in range(1, 9):
        begin = NOW_MS + hour * HOUR
        facts += world.at(begin).close(world.spec.state.next_live)
        if hour == 1:
            record_hour(world, NODE, hour_of(NOW_MS), rows)
        answers = [None] * 2 if hour == 2 else ["5600"] * 6
        world.at(begin + 50 * MINUTE).results(NODE, 0, "T4", answers, begin + 50 * MINUTE)
        if hour == hours_later:
            name = hash_of(NODE, hour_of(NOW_MS), rows)
            world.record_jws(NODE, late_batch(NODE, rows, hour_of(NOW_MS), name))
    (late,) = [fact for fact in facts if isinstance(fact, LateUsageScored)]
    return sum(int(one.micro_rgpu_hours) for one in late.nodes)


def test_who_is_late_already_gains_nothing_by_waiting_for_better_factors() -> None:
    scores = [spooled(hours) for hours in range(2, 7)]
    assert scores == sorted(scores, reverse=True)
    assert 0 < scores[-1] < spooled(1), "the failed challenge stands between"
