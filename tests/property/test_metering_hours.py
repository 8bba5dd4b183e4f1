"""Heartbeats and spools for any evidence: lost, late, out of order or spoiled, it never raises pay or reliability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from events.genesis import MeteringRules
from events.metering import EpochPaged, LateUsageScored
from services.metering.errors import HeartbeatHourOutOfTime, NoReadingStands, SpoolPartUnproved
from services.metering.grid import Grid
from services.metering.reliability import HOUR_UNIT, add_trial, estimate
from services.metering.state import Record, Trials
from tests.heartbeat_world import ALL, Reading, adopt, hash_of, hour_of, late_batch, minutes, record_hour
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, World, device, lease_id

NODE = "one"
FIRST = hour_of(NOW_MS)
HOURS = 3
quick = settings(max_examples=60, deadline=None)


@dataclass(frozen=True)
class Story:
    """What becomes of one hour: in time or not, how many heartbeats, and when and how its spool comes late."""

    in_time: bool = True
    record_after: int | None = 5
    heartbeats: int = 60
    spool_after: int | None = None
    spoil: int | None = None


def spool(hour: int) -> list[Reading]:
    start = NOW_MS + hour * HOUR
    at = range(start, start + HOUR, 5 * MINUTE)
    return [(device(NODE), lease_id("a"), first, first + 5 * MINUTE, 1_000) for first in at]


def events(stories: Sequence[Story]) -> list[tuple[int, int, str]]:
    """Return (minute, hour, what) in the order in which it happens."""
    found: list[tuple[int, int, str]] = []
    for hour, story in enumerate(stories):
        over = (hour + 1) * 60
        if story.in_time:
            found.append((over, hour, "readings"))
        if story.record_after is not None:
            found.append((over + story.record_after, hour, "hour"))
        if story.spool_after is not None:
            found.append((over + story.spool_after, hour, "spool"))
    return sorted(found)


def happen(world: World, hour: int, what: str, story: Story) -> None:
    readings = spool(hour)
    if what == "readings":
        world.record(NODE, *readings)
    elif what == "hour":
        record_hour(world, NODE, FIRST + hour, readings, ALL, minutes(story.heartbeats))
    else:
        name = hash_of(NODE, FIRST + hour, readings)
        if story.spoil is not None:
            readings = [*readings[: story.spoil], *readings[story.spoil + 1 :]]
        world.record_jws(NODE, late_batch(NODE, readings, FIRST + hour, name))


def earned(stories: Sequence[Story], epochs: int = 10) -> int:
    """Return the score of a lease of three hours whose evidence comes as told, over epochs of an hour."""
    rules = MeteringRules(availability_trials=True)
    world = World(epoch_seconds=3_600, close_after_seconds=0, rules=rules).with_node(NODE)
    adopt(world, NODE, NOW_MS)
    world.lease("a", NOW_MS, NOW_MS + HOURS * HOUR)
    score, closed = 0, 0
    for minute, hour, what in [*events(stories), (epochs * 60, -1, "")]:
        while closed < epochs and (closed + 1) * 60 <= minute - (hour >= 0):
            world.at(NOW_MS + (closed + 1) * HOUR)
            facts = world.close(world.spec.state.next_live)
            pages = [fact for fact in facts if isinstance(fact, EpochPaged | LateUsageScored)]
            score += sum(int(one.micro_rgpu_hours) for page in pages for one in page.nodes)
            closed += 1
        if hour >= 0:
            world.at(NOW_MS + minute * MINUTE)
            try:
                happen(world, hour, what, stories[hour])
            except (HeartbeatHourOutOfTime, NoReadingStands, SpoolPartUnproved):
                continue
    return score


best = earned([Story()] * HOURS)

story = st.builds(
    Story,
    st.booleans(),
    st.none() | st.integers(0, 90),
    st.integers(0, 60),
    st.none() | st.integers(61, 300),
    st.none() | st.integers(0, 11),
)


@quick
@given(st.lists(story, min_size=HOURS, max_size=HOURS))
def test_no_evidence_lost_late_or_spoiled_earns_more_than_all_of_it_in_time(stories: list[Story]) -> None:
    assert earned(stories) <= best


@quick
@given(st.lists(story, min_size=HOURS, max_size=HOURS), st.integers(0, HOURS - 1))
def test_taking_one_hour_s_proof_away_never_raises_pay(stories: list[Story], at: int) -> None:
    without = [*stories[:at], Story(stories[at].in_time, None, 0, None), *stories[at + 1 :]]
    assert earned(without) <= earned(stories)


def test_a_late_hour_proved_in_time_does_earn() -> None:
    late = Story(in_time=False, spool_after=120)
    assert 0 < earned([late] * HOURS) <= best
    assert earned([Story(in_time=False, spool_after=120, spoil=3)] * HOURS) == 0
    assert earned([Story(in_time=False, record_after=61, spool_after=120)] * HOURS) == 0


day = st.lists(st.integers(0, 60), min_size=24, max_size=24)


def after(days: Sequence[Sequence[int | None]], more: int) -> tuple[int, Record]:
    """Return the bound of availability `more` silent days after days of so many heartbeats an hour (None: no fact)."""
    world = World(close_after_seconds=0, rules=MeteringRules(availability_trials=True)).with_node(NODE)
    adopt(world, NODE, NOW_MS)
    for number in range(len(days) + more + 1):
        for hour in range(24):
            world.at(NOW_MS + number * DAY + (hour + 1) * HOUR)
            kept = days[number][hour] if number < len(days) else None
            if kept is not None:
                record_hour(world, NODE, FIRST + number * 24 + hour, answered_minutes=minutes(kept))
        world.close(world.spec.state.next_live)
    state = world.spec.state
    record = state.records[device(NODE)]
    return estimate(record.availability, HOUR_UNIT, state.grid, state.next_live)[0], record


@settings(max_examples=15, deadline=None)
@given(st.lists(day, min_size=1, max_size=2), st.integers(1, 4))
def test_silence_never_heals_availability(days: list[list[int]], more: int) -> None:
    (before, _), (silent, record) = after(days, 0), after(days, more)
    assert silent <= before
    assert sum(one[3] for one in record.availability) == (len(days) + more + 1) * 24 - 1, "every hour is a trial"


@settings(max_examples=15, deadline=None)
@given(day, st.integers(0, 23))
def test_an_hour_not_recorded_is_as_bad_as_the_worst(kept: list[int], hour: int) -> None:
    missing: list[int | None] = [None if at == hour else count for at, count in enumerate(kept)]
    assert after([missing], 0)[0] <= after([kept], 0)[0]


@given(st.lists(st.tuples(st.integers(0, 40), st.booleans()), max_size=30), st.integers(40, 60), st.integers(1, 24))
def test_trials_summed_in_one_step_are_as_trials_one_by_one(
    trials: list[tuple[int, bool]], now: int, count: int
) -> None:
    single: Trials = ()
    known: Trials = ()
    for at, good in trials:
        known = add_trial(known, at, count * good, count * (not good), count)
        for _ in range(count):
            single = add_trial(single, at, int(good), int(not good))
    assert known == single
    assert estimate(known, HOUR_UNIT, Grid(0, DAY), now) == estimate(single, HOUR_UNIT, Grid(0, DAY), now)
