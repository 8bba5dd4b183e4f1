"""Epochs: one by hand, their order and deadlines, pages and root, over-capacity, trials, and late usage."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from events.envelope import MAX_RECORD_BYTES, encode_data
from events.metering import (
    DeviceScore,
    EpochClosed,
    EpochPaged,
    LateUsageScored,
    NodeScore,
    OverCapacityDetected,
    ReliabilityChanged,
)
from services.kernel.snapshot import freeze, thaw
from services.metering.commands import CancelLease, CloseEpoch
from services.metering.decide.epochs import _late_pages, _pages
from services.metering.errors import BackfillNotOpen, EpochNotOver, EpochOutOfOrder, NotAdopted
from services.metering.merkle import merkle_root
from services.metering.reliability import EMPTY, lower_bound
from services.metering.service import service
from services.metering.state import Metering
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, ZERO_MS, World, device, lease_id, member, node
from tests.spec import Spec

STEP = 5 * MINUTE


def readings(on: str, of: str, start: int, end: int, level: int = 1_000) -> list[tuple[str, str, int, int, int]]:
    return [(on, of, at, min(at + STEP, end), level) for at in range(start, end, STEP)]


def history(*nodes: str, days: int = 2, **fields: Any) -> World:
    return World(backfill_days=days, backfill_nodes=nodes, **fields)


def closed(facts: Sequence[Any]) -> EpochClosed:
    return facts[-1]


def by_node(facts: Sequence[Any]) -> dict[str, NodeScore]:
    return {score.node: score for fact in facts if isinstance(fact, EpochPaged) for score in fact.nodes}


def test_one_epoch_by_hand() -> None:
    world = history("fast", "slow", days=1)
    world.with_node("fast", model="A10").with_node("slow", model="T4", owner="other-provider").open_backfill()
    # Five results each, the last an hour before the epoch, exactly at the table's throughput.
    world.results("fast", 0, "A10", ["13143.2"] * 5, ZERO_MS - HOUR)
    world.results("slow", 0, "T4", ["5600"] * 5, ZERO_MS - HOUR)
    world.lease("a", ZERO_MS, ZERO_MS + 10 * HOUR, 500, models=("A10",))
    world.lease("b", ZERO_MS, ZERO_MS + 10 * HOUR, 1_000, models=("T4",))
    # The A10 says it ran at 800 for 4 hours: the lease's 500 count. The T4 ran at 300 for 2 hours: 300 count.
    world.record("fast", *readings(device("fast"), lease_id("a"), ZERO_MS, ZERO_MS + 4 * HOUR, 800))
    world.record("slow", *readings(device("slow"), lease_id("b"), ZERO_MS, ZERO_MS + 2 * HOUR, 300))
    world.close_backfill()
    facts = world.close(0)

    fast, slow = by_node(facts)[node("fast")], by_node(facts)[node("slow")]
    # Counted: 0.5 GPU x 4 h = 2 GPU-hours and 0.3 GPU x 2 h = 0.6 GPU-hours, in milli-ms 3,600,000,000 each hour.
    assert fast.allocated_milli_ms == str(2 * 3_600_000_000)
    assert slow.allocated_milli_ms == str(6 * 360_000_000)
    # Utilised is what the readings say; offered is the whole device for the whole epoch.
    assert fast.utilised_milli_ms == str(800 * 4 * HOUR)
    assert fast.offered_milli_ms == str(1_000 * DAY)
    # R: five successes of age 0 days (the newest is an hour old, the oldest 1 h 40 min):
    # alpha = 6, beta = 1: 6/7 - sqrt(6 / (49 x 8)) = 0.857142857 - 0.123717914 = 0.733424943, floored.
    assert (fast.devices[0].performance_factor, fast.devices[0].reliability_ppm) == (23_470, 733_424)
    assert (slow.devices[0].performance_factor, slow.devices[0].reliability_ppm) == (10_000, 733_424)
    # CS: 2 x 2.3470 x 0.733424 = 3.442692256 and 0.6 x 1.0000 x 0.733424 = 0.4400544 reference-GPU-hours.
    assert fast.micro_rgpu_hours == "3442692"
    assert slow.micro_rgpu_hours == "440054"
    totals = closed(facts).totals["gpu"]
    assert (totals.micro_rgpu_hours, totals.nodes) == ("3882746", 2)


def test_a_device_without_results_is_paid_at_the_floor() -> None:
    world = history("one").with_node("one", model="G2").open_backfill()
    world.lease("a", ZERO_MS, ZERO_MS + HOUR)
    world.record("one", *readings(device("one"), lease_id("a"), ZERO_MS, ZERO_MS + HOUR))
    world.close_backfill()
    score = by_node(world.close(0))[node("one")]
    assert (score.devices[0].performance_factor, score.devices[0].reliability_ppm) == (500, EMPTY)
    # 1 GPU-hour x 0.05 x 0.211324 = 0.0105662 reference-GPU-hours.
    assert score.micro_rgpu_hours == "10566"


def test_a_lease_between_linked_parties_is_shown_and_earns_nothing() -> None:
    world = history("one").with_node("one", owner="consumer").open_backfill()
    assert world.lease("a", ZERO_MS, ZERO_MS + HOUR).linked == "owner"
    world.record("one", *readings(device("one"), lease_id("a"), ZERO_MS, ZERO_MS + HOUR))
    world.close_backfill()
    score = by_node(world.close(0))[node("one")]
    assert (score.micro_rgpu_hours, score.allocated_milli_ms) == ("0", "0")
    assert score.utilised_milli_ms == str(1_000 * HOUR)


def test_an_instant_above_the_whole_device_pays_nobody_there() -> None:
    world = history("one").with_node("one").open_backfill()
    world.lease("a", ZERO_MS, ZERO_MS + HOUR, 500)
    world.lease("b", ZERO_MS, ZERO_MS + HOUR, 500)
    world.record("one", *readings(device("one"), lease_id("a"), ZERO_MS, ZERO_MS + HOUR, 600))
    # For ten minutes the other lease reads 401: together 1001.
    world.record("one", *readings(device("one"), lease_id("b"), ZERO_MS, ZERO_MS + 20 * MINUTE, 400))
    world.record("one", *readings(device("one"), lease_id("b"), ZERO_MS + 20 * MINUTE, ZERO_MS + 30 * MINUTE, 401))
    world.close_backfill()
    facts = world.close(0)
    (over,) = [fact for fact in facts if isinstance(fact, OverCapacityDetected)]
    assert (over.start_ms, over.end_ms, over.level) == (ZERO_MS + 20 * MINUTE, ZERO_MS + 30 * MINUTE, 1_001)
    assert by_node(facts)[node("one")].allocated_milli_ms == str(500 * 50 * MINUTE + 400 * 20 * MINUTE)


def test_an_epoch_closes_once_its_time_has_come_and_in_order() -> None:
    world = World(close_after_seconds=3_600).with_node("one")
    world.at(NOW_MS + DAY + HOUR - 1)
    assert service().due(world.spec.state, NOW_MS + DAY + HOUR - 1) == []
    with pytest.raises(EpochNotOver):
        world.close(100)
    world.at(NOW_MS + 2 * DAY + HOUR)
    due = service().due(world.spec.state, NOW_MS + 2 * DAY + HOUR)
    assert [timed.command.epoch for timed in due] == [100, 101]
    assert [timed.key for timed in due] == ["close-epoch/100", "close-epoch/101"]
    with pytest.raises(EpochOutOfOrder):
        world.close(101)
    before = world.spec.position
    assert closed(world.close(100)).through_position == str(before)
    with pytest.raises(EpochOutOfOrder):
        world.close(100)


def test_a_backfill_s_epochs_close_in_order_once_it_is_closed() -> None:
    world = history("one", days=3).with_node("one")
    with pytest.raises(BackfillNotOpen):
        world.close_backfill()
    world.open_backfill()
    assert service().due(world.spec.state, NOW_MS) == []
    with pytest.raises(EpochNotOver):
        world.close(0)
    world.close_backfill()
    assert [timed.command.epoch for timed in service().due(world.spec.state, NOW_MS)] == [0, 1, 2]
    assert [closed(world.close(epoch)).backfill for epoch in range(3)] == ["history"] * 3
    assert service().due(world.spec.state, NOW_MS) == []
    with pytest.raises(BackfillNotOpen):
        world.close_backfill()


def test_a_live_epoch_under_an_open_backfill_waits_for_it_and_stays_live() -> None:
    world = history("one", days=101).with_node("one").open_backfill()
    much_later = NOW_MS + 10 * DAY
    world.at(much_later)
    assert service().due(world.spec.state, much_later) == []
    world.close_backfill()
    due = [timed.command.epoch for timed in service().due(world.spec.state, much_later)]
    assert due[:100] == list(range(100))
    assert closed(world.close(100)).backfill is None


def test_an_epoch_nobody_used_closes_empty() -> None:
    world = World(close_after_seconds=0).at(NOW_MS + DAY)
    fact = closed(world.close(100))
    assert (fact.pages, fact.root) == (0, hashlib.sha256().hexdigest())
    assert fact.totals["gpu"].nodes == 0


def test_before_genesis_nothing_closes() -> None:
    assert service().due(Metering(), NOW_MS) == []
    with pytest.raises(NotAdopted):
        Spec(service()).when(CloseEpoch(0))


def score(number: int, devices: int) -> NodeScore:
    scores = tuple(DeviceScore(device(str(number), one), "infer", str(10**15), 10_000, EMPTY) for one in range(devices))
    return NodeScore(node("x"), member("y"), str(10**9), str(10**15), str(10**15), str(10**15), scores)


def test_a_page_holds_200_nodes_or_what_fits_in_a_record() -> None:
    small = [msgspec.structs.replace(score(number, 0), owner="") for number in range(450)]
    assert [len(page) for page in _pages(small)] == [200, 200, 50]
    large = [score(number, 8) for number in range(200)]
    pages = list(_pages(large))
    assert sum(map(len, pages)) == 200
    assert all(len(encode_data(EpochPaged(1, 1, page))) < MAX_RECORD_BYTES - 1_000 for page in pages)
    assert len(pages) < 5


def test_every_page_of_late_scores_tells_how_many_there_are_and_their_sum() -> None:
    facts = list(_late_pages(7, 9, "gpu", [msgspec.structs.replace(score(1, 0), owner="", micro_rgpu_hours="3")] * 450))
    assert [(fact.page, len(fact.nodes)) for fact in facts] == [(0, 200), (1, 200), (2, 50)]
    assert {(f.epoch, f.scored_in, f.pages, f.total_micro_rgpu_hours) for f in facts} == {(7, 9, 3, "1350")}
    large = list(_late_pages(7, 9, "gpu", [score(number, 8) for number in range(200)]))
    assert all(len(encode_data(fact)) < MAX_RECORD_BYTES - 1_000 for fact in large)


def test_the_root_is_rfc_6962_s_over_the_pages_bytes() -> None:
    inputs = [b"", b"\x00", b"\x10", b"\x20\x21", b"\x30\x31", b"\x40\x41\x42\x43"]
    # The first roots of the reference tree of RFC 6962's implementations.
    roots = {
        0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    }
    for size, root in roots.items():
        assert merkle_root(inputs[:size]).hex() == root
    world = history("one").with_node("one").open_backfill()
    world.lease("a", ZERO_MS, ZERO_MS + HOUR)
    world.close_backfill()
    page, fact = world.close(0)[-2:]
    assert fact.root == hashlib.sha256(b"\x00" + bytes(encode_data(page))).hexdigest()


def test_a_table_in_force_at_the_start_is_named_in_the_close() -> None:
    world = history("one").with_node("one").open_backfill().close_backfill()
    assert closed(world.close(0)).table_sha256 == {"infer": world.spec.state.tables["infer"][0].sha256}


def served(hours: int, of: int = 10, days: int = 3) -> World:
    """Return a history in which five leases of ten hours each were served for `hours` on the first day."""
    world = history("one", days=days).with_node("one", 5).open_backfill()
    for number in range(5):
        world.results("one", number, "T4", ["5600"] * 20, ZERO_MS - HOUR)
        lease = world.lease(number, ZERO_MS, ZERO_MS + of * HOUR)
        world.record("one", *readings(lease.devices[0].device, lease.lease, ZERO_MS, ZERO_MS + hours * HOUR))
        world.lease(f"next-{number}", ZERO_MS + DAY, ZERO_MS + 2 * DAY)
    return world.close_backfill()


def test_five_leases_that_were_not_covered_lower_the_owner() -> None:
    world = served(9)
    world.close(0)
    changed = [fact for fact in world.close(1) if isinstance(fact, ReliabilityChanged) and fact.owner is None]
    # 90 % covered is a failure: five trials of weight 1, one hour short of 14 h old, all lost.
    assert [(fact.after_ppm, fact.cause) for fact in changed] == [(lower_bound(0, 5, 1), "lower bound of leases")]


def test_five_leases_that_were_covered_leave_the_challenges_to_bound() -> None:
    world = served(10)
    world.close(0)
    first = world.spec.state.standings[member("provider")].ppm
    changed = [fact for fact in world.close(1) if isinstance(fact, ReliabilityChanged) and fact.owner is None]
    assert [fact.cause for fact in changed] == ["lower bound of leases"]
    assert lower_bound(5, 0, 1) == changed[0].after_ppm < first


def test_a_lease_that_goes_on_is_settled_where_it_ends() -> None:
    world = history("one", days=3).with_node("one").open_backfill()
    world.lease("a", ZERO_MS, ZERO_MS + 2 * DAY)
    for day in range(2):
        world.record("one", *readings(device("one"), lease_id("a"), ZERO_MS + day * DAY, ZERO_MS + (day + 1) * DAY))
    world.close_backfill()
    world.close(0)
    assert dict(world.spec.state.covered) == {(device("one"), lease_id("a")): DAY}
    world.close(1)
    assert not world.spec.state.covered
    ((_, won, lost, count),) = world.spec.state.records[device("one")].leases
    assert (won, lost, count) == (3_600_000_000, 0, 1)


def live(minutes: int, **fields: Any) -> World:
    """Return a live community with a lease of two hours, read for some minutes from the founding on."""
    world = World(close_after_seconds=0, epoch_seconds=3_600, **fields).with_node("one")
    world.lease("a", NOW_MS, NOW_MS + 2 * HOUR)
    world.at(NOW_MS + minutes * MINUTE)
    if minutes:
        world.record("one", *readings(device("one"), lease_id("a"), NOW_MS, NOW_MS + minutes * MINUTE))
    return world


def first_epoch(world: World) -> int:
    return world.spec.state.first_live


def test_usage_recorded_in_time_after_the_close_is_scored_later() -> None:
    world = live(30)
    epoch = first_epoch(world)
    world.at(NOW_MS + HOUR)
    assert by_node(world.close(epoch))[node("one")].allocated_milli_ms == str(1_000 * 30 * MINUTE)
    world.at(NOW_MS + HOUR + 20 * MINUTE)
    # The half hour that was missing comes late, but within the hour; what was counted comes again with it.
    world.record("one", *readings(device("one"), lease_id("a"), NOW_MS + 20 * MINUTE, NOW_MS + HOUR))
    world.at(NOW_MS + 2 * HOUR)
    facts = world.close(epoch + 1)
    (late,) = [fact for fact in facts if isinstance(fact, LateUsageScored)]
    assert (late.epoch, late.scored_in, late.page, late.pages) == (epoch, epoch + 1, 0, 1)
    (scored,) = late.nodes
    assert late.total_micro_rgpu_hours == scored.micro_rgpu_hours
    assert scored.allocated_milli_ms == str(1_000 * 30 * MINUTE)
    # 0.5 GPU-hours x 0.05 x 0.211324, rounded down.
    assert scored.micro_rgpu_hours == str(500_000 * 211_324 * 500 // (1_000_000 * 10_000))
    # It is scored once.
    world.at(NOW_MS + 3 * HOUR)
    assert not [fact for fact in world.close(epoch + 2) if isinstance(fact, LateUsageScored)]


def test_late_usage_takes_the_lower_factor_of_both_epochs() -> None:
    world = live(30)
    epoch = first_epoch(world)
    world.at(NOW_MS + HOUR)
    world.close(epoch)
    # Three results of a fast card come within the second epoch; they raise its own factor, not the first one's.
    world.results("one", 0, "T4", ["5600"] * 3, NOW_MS + HOUR)
    world.at(NOW_MS + HOUR + 20 * MINUTE)
    world.record("one", *readings(device("one"), lease_id("a"), NOW_MS + 30 * MINUTE, NOW_MS + HOUR))
    world.at(NOW_MS + 2 * HOUR)
    facts = world.close(epoch + 1)
    (late,) = [fact for fact in facts if isinstance(fact, LateUsageScored)]
    assert late.nodes[0].devices[0].performance_factor == 500
    assert late.nodes[0].devices[0].reliability_ppm == EMPTY


@pytest.mark.parametrize(("arrives", "kept"), [(59, True), (61, False)])
def test_a_lease_is_judged_once_no_reading_in_time_can_come(arrives: int, kept: bool) -> None:  # noqa: FBT001
    world = World(close_after_seconds=0, epoch_seconds=3_600).with_node("one")
    world.lease("a", NOW_MS, NOW_MS + HOUR)
    epoch = first_epoch(world)
    world.at(NOW_MS + HOUR)
    # The epoch closes before any of its readings comes: too early to call the lease a failure.
    world.close(epoch)
    assert not world.spec.state.records
    for slot in range(12):
        start = NOW_MS + slot * STEP
        world.at(max(NOW_MS + HOUR, start + STEP + arrives * MINUTE))
        world.record("one", (device("one"), lease_id("a"), start, start + STEP, 1_000))
    world.at(NOW_MS + 3 * HOUR)
    world.close(epoch + 1)
    world.close(epoch + 2)
    ((_, won, lost, _),) = world.spec.state.records[device("one")].leases
    assert (won > 0, lost > 0) == (kept, not kept)


def test_closed_epochs_are_forgotten_once_nothing_can_touch_them() -> None:
    world = live(60)
    epoch = first_epoch(world)
    for number in range(5):
        world.at(NOW_MS + (number + 1) * HOUR)
        world.close(epoch + number)
    state = world.spec.state
    assert epoch not in state.usage
    assert state.first_kept > epoch
    assert epoch not in state.paid
    assert not state.bookings
    world.at(NOW_MS + 40 * DAY)
    for number in range(5, 40 * 24):
        world.close(epoch + number)
    state = world.spec.state
    assert (len(state.leases), len(state.ending), len(state.covered)) == (0, 0, 0)


@pytest.mark.parametrize("epoch_seconds", [300, 3_600, 86_400])
def test_a_cancel_after_a_gap_in_the_last_hour_is_a_failure(epoch_seconds: int) -> None:
    for minutes, kept in ((90, True), (80, False)):
        world = World(close_after_seconds=0, epoch_seconds=epoch_seconds).with_node("one")
        world.lease("a", NOW_MS, NOW_MS + 5 * HOUR)
        for hour in range(2):
            end = min(minutes * MINUTE, (hour + 1) * HOUR)
            world.at(NOW_MS + end)
            world.record("one", *readings(device("one"), lease_id("a"), NOW_MS + hour * HOUR, NOW_MS + end))
        world.at(NOW_MS + 90 * MINUTE)
        world.spec.when(CancelLease(lease_id("a"), "jws"), member("consumer"))
        epoch, grid = first_epoch(world), world.spec.state.grid
        while not world.spec.state.records:
            # Each epoch closes as soon as it is over; the lease is judged once no reading in time can come.
            world.at(max(NOW_MS + 90 * MINUTE, grid.end(epoch)))
            world.close(epoch)
            epoch += 1
        assert epoch < first_epoch(world) + 100
        ((_, won, lost, _),) = world.spec.state.records[device("one")].leases
        assert (won > 0, lost > 0) == (kept, not kept)


def test_readings_beyond_a_cancellation_count_nothing() -> None:
    world = World(close_after_seconds=0, epoch_seconds=3_600).with_node("one")
    world.lease("a", NOW_MS, NOW_MS + 5 * HOUR)
    world.at(NOW_MS + 57 * MINUTE)
    # Readings may be five minutes ahead; the lease is cancelled before they have passed, the next one begins.
    world.record("one", *readings(device("one"), lease_id("a"), NOW_MS, NOW_MS + 62 * MINUTE))
    world.spec.when(CancelLease(lease_id("a"), "jws"), member("consumer"))
    world.lease("b", NOW_MS + 57 * MINUTE, NOW_MS + 2 * HOUR)
    world.at(NOW_MS + HOUR)
    world.record("one", *readings(device("one"), lease_id("b"), NOW_MS + 57 * MINUTE, NOW_MS + HOUR))
    facts = world.close(first_epoch(world))
    assert not [fact for fact in facts if isinstance(fact, OverCapacityDetected)]
    assert by_node(facts)[node("one")].utilised_milli_ms == str(1_000 * HOUR)
    world.at(NOW_MS + 4 * HOUR)
    world.close(first_epoch(world) + 1)
    assert not [key for key in world.spec.state.covered if key[1] == lease_id("a")]


def test_the_state_survives_a_snapshot() -> None:
    for world in (served(9), live(30)):
        state = world.spec.state
        assert thaw(freeze(state), Metering) == state
