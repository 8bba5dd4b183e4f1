"""Late readings: the whole hour in parts, under the hash that was recorded in time."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import permutations

import pytest

from events.metering import EpochPaged, LateUsageScored, ReadingsRecorded
from events.spool import spool_hash, spool_line, spool_next, spool_start
from services.kernel.errors import MalformedRequest
from services.kernel.snapshot import freeze, thaw
from services.metering.batches import read_batch
from services.metering.errors import NoReadingStands, SpoolPartUnproved, TooManyOpenSpools
from services.metering.spools import MOST_OPEN
from services.metering.state import Metering, mapped
from tests.heartbeat_world import Reading, hash_of, hour_of, late_batch, record_hour
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, World, device, lease_id, node

NODE = "one"
FIRST = hour_of(NOW_MS)


def line(number: int, level: int = 1_000, minutes: int = 5) -> Reading:
    start = NOW_MS + number * minutes * MINUTE
    return (device(NODE), lease_id("a"), start, start + minutes * MINUTE, level)


SPOOL = [line(number) for number in range(12)]


@pytest.fixture
def world() -> World:
    world = World(close_after_seconds=0).with_node(NODE)
    world.lease("a", NOW_MS, NOW_MS + 3 * HOUR)
    return world


def committed(world: World, spool: Sequence[Reading] = SPOOL) -> World:
    world.at(NOW_MS + HOUR)
    record_hour(world, NODE, FIRST, spool)
    return world.at(NOW_MS + 5 * HOUR)


def bring(
    world: World,
    spool: Sequence[Reading],
    part: int = 0,
    parts: int = 1,
    number: int = 0,
    named: Sequence[Reading] = SPOOL,
    hour: int = FIRST,
) -> ReadingsRecorded:
    return world.record_jws(NODE, late_batch(NODE, spool, hour, hash_of(NODE, hour, named), part, parts, number))


def usage(world: World) -> dict[tuple[str, str], bytes]:
    return dict(mapped(world.spec.state.usage, world.spec.state.first_live))


def in_time(readings: Sequence[Reading]) -> dict[tuple[str, str], bytes]:
    world = World(close_after_seconds=0).with_node(NODE)
    world.lease("a", NOW_MS, NOW_MS + 3 * HOUR)
    world.at(NOW_MS + HOUR)
    world.record(NODE, *readings)
    return usage(world)


def test_the_chain_is_as_published() -> None:
    start = hashlib.sha256(f"commons.spool/1\n{node(NODE)}\n{FIRST}\n".encode()).digest()
    text = f'["{device(NODE)}","{lease_id("a")}",{NOW_MS},{NOW_MS + 5 * MINUTE},1000]\n'.encode()
    assert spool_start(node(NODE), FIRST) == start
    assert spool_line(*line(0)) == text
    assert spool_next(start, text) == hashlib.sha256(start + text).digest()
    assert spool_hash(node(NODE), FIRST, [text]) == spool_next(start, text)
    assert spool_hash(node(NODE), FIRST, []) == start


def test_a_late_hour_counts_under_the_hash_recorded_in_time(world: World) -> None:
    fact = bring(committed(world), SPOOL)
    assert fact.late == tuple(range(12))
    assert fact.spool
    assert fact.spool.whole
    assert usage(world) == in_time(SPOOL)


def test_parts_may_come_in_any_order_and_again() -> None:
    for order in permutations(range(3)):
        world = World(close_after_seconds=0).with_node(NODE)
        world.lease("a", NOW_MS, NOW_MS + 3 * HOUR)
        committed(world)
        for number, part in enumerate((order[0], *order)):
            assert usage(world) == {}
            fact = bring(world, SPOOL[part * 4 : part * 4 + 4], part, 3, number)
        assert fact.spool
        assert fact.spool.whole
        assert usage(world) == in_time(SPOOL)
        assert not mapped(world.spec.state.spools, node(NODE))


@pytest.mark.parametrize(
    "altered",
    [
        SPOOL[:-1],
        SPOOL[1:],
        [*SPOOL[:3], line(3, 999), *SPOOL[4:]],
        [SPOOL[1], SPOOL[0], *SPOOL[2:]],
        [*SPOOL, SPOOL[-1]],
    ],
)
def test_an_hour_altered_by_one_line_counts_nothing(world: World, altered: list[Reading]) -> None:
    fact = bring(committed(world), altered)
    assert fact.spool
    assert not fact.spool.whole
    assert usage(world) == {}
    assert bring(world, SPOOL, number=1).spool.whole, "the true hour may still come"  # type: ignore[union-attr]
    assert usage(world) == in_time(SPOOL)


def test_a_part_of_an_hour_counts_nothing(world: World) -> None:
    committed(world)
    bring(world, SPOOL[:6], 0, 2)
    assert usage(world) == {}


def test_another_hash_than_the_one_recorded_in_time_is_refused(world: World) -> None:
    with pytest.raises(SpoolPartUnproved):
        bring(committed(world), SPOOL[:-1], named=SPOOL[:-1])


def test_an_hour_that_was_never_recorded_is_refused(world: World) -> None:
    world.at(NOW_MS + 5 * HOUR)
    with pytest.raises(SpoolPartUnproved):
        bring(world, SPOOL)


def test_a_reading_of_another_hour_does_not_count_under_this_hour_s_hash(world: World) -> None:
    early = [(device(NODE), lease_id("a"), NOW_MS + 2 * HOUR, NOW_MS + 2 * HOUR + MINUTE, 1_000)]
    committed(world, [*SPOOL, *early])
    fact = bring(world, [*SPOOL, *early], named=[*SPOOL, *early])
    assert fact.rejected == {"outside-spool": (12,)}
    assert usage(world) == in_time(SPOOL)
    with pytest.raises(NoReadingStands):
        bring(world, early, named=[*SPOOL, *early])


def test_what_came_in_time_and_late_counts_once_and_the_lowest_level_stands(world: World) -> None:
    world.at(NOW_MS + HOUR)
    world.record(NODE, *SPOOL[:6], line(7, 400))
    fact = bring(committed(world), SPOOL)
    assert fact.conflicts == (7,)
    assert usage(world) == in_time([*SPOOL[:7], line(7, 400), *SPOOL[8:]])


def test_a_proved_hour_takes_no_more(world: World) -> None:
    committed(world)
    bring(world, SPOOL)
    again = bring(world, SPOOL, number=1)
    assert again.spool
    assert not again.spool.whole
    assert not mapped(world.spec.state.spools, node(NODE))
    assert usage(world) == in_time(SPOOL)


def test_hours_half_delivered_are_limited() -> None:
    world = World(close_after_seconds=0).with_node(NODE)
    hours = range(MOST_OPEN + 1)
    for hour in hours:
        world.at(NOW_MS + hour * HOUR)
        world.lease("a" if hour == 0 else hour, NOW_MS + hour * HOUR, NOW_MS + (hour + 1) * HOUR)
        world.at(NOW_MS + (hour + 1) * HOUR)
        record_hour(world, NODE, FIRST + hour, spool_of(hour))
    world.at(NOW_MS + 2 * DAY)
    for hour in hours[:-1]:
        bring(world, spool_of(hour)[:1], 0, 2, named=spool_of(hour), hour=FIRST + hour)
    with pytest.raises(TooManyOpenSpools):
        bring(world, spool_of(MOST_OPEN)[:1], 0, 2, named=spool_of(MOST_OPEN), hour=FIRST + MOST_OPEN)
    bring(world, spool_of(0)[1:], 1, 2, named=spool_of(0))
    bring(world, spool_of(MOST_OPEN)[:1], 0, 2, named=spool_of(MOST_OPEN), hour=FIRST + MOST_OPEN)


def spool_of(hour: int) -> list[Reading]:
    """Two readings of an hour, under the lease of that hour."""
    lease = lease_id("a" if hour == 0 else hour)
    starts = [NOW_MS + hour * HOUR, NOW_MS + hour * HOUR + MINUTE]
    return [(device(NODE), lease, start, start + MINUTE, 1) for start in starts]


def test_a_late_batch_names_all_four_or_none() -> None:
    whole = late_batch(NODE, SPOOL, FIRST, hash_of(NODE, FIRST, SPOOL), 0, 1)
    assert read_batch(whole).late_of is not None
    with pytest.raises(MalformedRequest):
        read_batch(late_batch(NODE, SPOOL, FIRST, hash_of(NODE, FIRST, SPOOL), 1, 1))
    with pytest.raises(MalformedRequest):
        read_batch(late_batch(NODE, SPOOL, FIRST, "no hash", 0, 1))
    with pytest.raises(MalformedRequest):
        read_batch(late_batch(NODE, SPOOL, FIRST, hash_of(NODE, FIRST, SPOOL), 0, 17))


def test_late_usage_of_a_closed_epoch_is_scored_once_at_the_next_close(world: World) -> None:
    committed(world)
    world.at(NOW_MS + DAY)
    paged = [fact for fact in world.close(world.spec.state.next_live) if isinstance(fact, EpochPaged)]
    assert paged[0].nodes[0].micro_rgpu_hours == "0"
    world.at(NOW_MS + DAY + 5 * HOUR)
    assert bring(world, SPOOL).spool.whole  # type: ignore[union-attr]
    world.at(NOW_MS + 2 * DAY)
    late = [fact for fact in world.close(world.spec.state.next_live) if isinstance(fact, LateUsageScored)]
    (score,) = late[0].nodes
    assert score.allocated_milli_ms == str(1_000 * HOUR)
    assert int(score.micro_rgpu_hours) > 0
    world.at(NOW_MS + 3 * DAY)
    assert not [fact for fact in world.close(world.spec.state.next_live) if isinstance(fact, LateUsageScored)]


def test_late_hours_are_forgotten_after_35_days(world: World) -> None:
    committed(world)
    bring(world, SPOOL[:6], 0, 2)
    for day in range(36):
        world.at(NOW_MS + (day + 1) * DAY)
        world.close(world.spec.state.next_live)
        kept = bool(mapped(world.spec.state.hours, node(NODE)))
        assert kept == (day < 35)
        assert bool(mapped(world.spec.state.spools, node(NODE))) == kept
        assert not world.spec.state.bookings or day < 2
    state = world.spec.state
    assert (len(state.usage), len(state.paid), len(state.leases)) == (0, 0, 0)
    with pytest.raises(NoReadingStands):
        bring(world, SPOOL[6:], 1, 2)


def test_the_state_with_half_an_hour_survives_a_snapshot(world: World) -> None:
    committed(world)
    bring(world, SPOOL[:6], 0, 2)
    state = world.spec.state
    assert thaw(freeze(state), Metering) == state
