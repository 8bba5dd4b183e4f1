"""Hours of heartbeats, availability and maintenance."""

from __future__ import annotations

import pytest

from events import registry
from events.genesis import MeteringRules
from events.metering import NodeAdopted, ReliabilityChanged
from services.kernel.decider import Emit
from services.kernel.errors import InvalidField
from services.kernel.snapshot import freeze, thaw
from services.metering.availability import in_window
from services.metering.commands import AdoptNode, AnnounceMaintenance, RecordHeartbeatHour
from services.metering.errors import (
    HeartbeatHourKnown,
    HeartbeatHourOutOfTime,
    HeartbeatOutOfTime,
    MaintenanceCapReached,
    MaintenanceTooLate,
    NotNodeOwner,
    NotThisNode,
    UnknownNode,
)
from services.metering.heartbeats import check_minute
from services.metering.reliability import EMPTY, lower_bound, reliability
from services.metering.state import Metering, Record
from tests.heartbeat_world import ALL, adopt, hash_of, hour_of, minutes, record_hour
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, World, device, lease_id, member, node

NODE = "one"
FIRST = hour_of(NOW_MS)
RULES = MeteringRules(availability_trials=True)


@pytest.fixture
def world() -> World:
    return World(close_after_seconds=0, rules=RULES).with_node(NODE)


def pass_day(world: World, day: int = 0, kept: int = 60, hours: range = range(24)) -> None:
    """Let a day go by with so many heartbeats in each of its `hours`, and close its epoch at its end."""
    for hour in range(FIRST + 24 * day, FIRST + 24 * day + 24):
        world.at((hour + 1) * HOUR)
        if hour % 24 in hours:
            record_hour(world, NODE, hour, answered_minutes=minutes(kept))
    world.at(NOW_MS + (day + 1) * DAY)
    world.close(world.spec.state.next_live)


def trials(world: World, subject: str) -> tuple[int, int]:
    """Successes and failures of availability."""
    known = world.spec.state.records.get(subject, Record()).availability
    return sum(one[1] for one in known), sum(one[2] for one in known)


# --- the hour ----------------------------------------------------------------------------------------------------


def test_an_hour_is_recorded_as_the_minutes_both_sides_saw(world: World) -> None:
    world.at(NOW_MS + HOUR)
    fact = record_hour(world, NODE, FIRST, signed_minutes=0b0111, answered_minutes=0b1101)
    assert fact is not None
    assert (fact.minutes, fact.hour, fact.owner) == (f"{0b0101:015x}", FIRST, member("provider"))
    assert fact.spool_sha256 == hash_of(NODE, FIRST, ())


@pytest.mark.parametrize("after", [-1, HOUR, DAY])
def test_an_hour_before_its_end_or_an_hour_after_it_is_refused(world: World, after: int) -> None:
    world.at(NOW_MS + HOUR + after)
    with pytest.raises(HeartbeatHourOutOfTime):
        record_hour(world, NODE, FIRST)


def test_the_same_hour_again_is_answered_and_records_nothing(world: World) -> None:
    world.at(NOW_MS + HOUR)
    assert record_hour(world, NODE, FIRST, answered_minutes=minutes(58))
    assert record_hour(world, NODE, FIRST, signed_minutes=ALL) is None
    assert world.spec.answer == (
        b'{"node":"%s","hour":%d,"minutes":"%015x"}' % (node(NODE).encode(), FIRST, minutes(58))
    )


def test_another_hash_for_a_recorded_hour_is_refused(world: World) -> None:
    world.at(NOW_MS + HOUR)
    record_hour(world, NODE, FIRST)
    with pytest.raises(HeartbeatHourKnown):
        record_hour(world, NODE, FIRST, [(device(NODE), lease_id("a"), NOW_MS, NOW_MS + 1, 1)])


def test_an_hour_of_another_node_is_refused(world: World) -> None:
    world.with_node("two").at(NOW_MS + HOUR)
    command = RecordHeartbeatHour(node(NODE), FIRST, ALL, ALL, "0" * 64, "jws")
    with pytest.raises(NotThisNode):
        world.spec.when(command, node("two"))


def test_an_hour_of_a_node_nobody_registered_is_refused(world: World) -> None:
    world.at(NOW_MS + HOUR)
    with pytest.raises(UnknownNode):
        record_hour(world, "nobody", FIRST)


def test_a_map_of_more_than_an_hour_is_refused(world: World) -> None:
    world.at(NOW_MS + HOUR)
    with pytest.raises(InvalidField):
        record_hour(world, NODE, FIRST, signed_minutes=1 << 60)


@pytest.mark.parametrize(("after", "good"), [(-1, False), (0, True), (2 * MINUTE - 1, True), (2 * MINUTE, False)])
def test_a_heartbeat_comes_within_two_minutes_of_its_minute(after: int, *, good: bool) -> None:
    if good:
        check_minute(NOW_MS // MINUTE, NOW_MS + after)
    else:
        with pytest.raises(HeartbeatOutOfTime):
            check_minute(NOW_MS // MINUTE, NOW_MS + after)


# --- trials ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kept", "won"), [(60, 23), (57, 23), (56, 0), (0, 0)])
def test_an_hour_succeeds_with_57_of_60_heartbeats(world: World, kept: int, won: int) -> None:
    adopt(world, NODE, NOW_MS)
    pass_day(world, kept=kept)
    # The day's last hour may still be recorded for an hour: it is judged at the next close.
    assert trials(world, device(NODE)) == trials(world, member("provider")) == (won, 23 - won)


def test_an_hour_without_a_fact_is_a_failure(world: World) -> None:
    adopt(world, NODE, NOW_MS)
    pass_day(world, hours=range(6, 24))
    assert trials(world, device(NODE)) == (17, 6)


def test_only_hours_of_the_stated_window_are_trials() -> None:
    world = World(close_after_seconds=0, rules=RULES).with_node(NODE, window=registry.Window(20, 4))
    adopt(world, NODE, NOW_MS)
    pass_day(world, hours=range(20, 24))
    assert trials(world, device(NODE)) == (3, 4)


@pytest.mark.parametrize(
    ("window", "inside"),
    [((0, 24), range(24)), ((6, 6), range(24)), ((8, 18), range(8, 18)), ((22, 2), (22, 23, 0, 1))],
)
def test_a_window_is_whole_hours_of_each_day(window: tuple[int, int], inside: range) -> None:
    assert {hour for hour in range(24) if in_window(registry.Window(*window), 24_000 + hour)} == set(inside)


def test_trials_begin_with_the_first_full_hour_after_activation(world: World) -> None:
    adopt(world, NODE, NOW_MS + 5 * HOUR + 1)
    pass_day(world, kept=0)
    assert trials(world, device(NODE)) == (0, 17)


def test_a_node_that_is_not_active_has_no_trials(world: World) -> None:
    world.spec.knowing(Emit(node(NODE), registry.NodeSuspended(node(NODE), "steward")))
    adopt(world, NODE, NOW_MS)
    assert world.spec.state.stated[node(NODE)], "a suspension ends no trials"
    idle = World(rules=RULES)
    idle.with_node("other")
    fresh = idle.spec.directory.nodes[node("other")]
    assert fresh.standing == "active"
    adopt(idle, "nobody", NOW_MS)
    assert node("nobody") not in idle.spec.state.stated


def test_a_narrower_window_holds_from_an_hour_ahead(world: World) -> None:
    adopt(world, NODE, NOW_MS)
    window = registry.Window(0, 2)
    world.spec.knowing(Emit(node(NODE), registry.NodeWindowStated(node(NODE), window, "jws")))
    adopt(world, NODE, NOW_MS + 10 * MINUTE)
    assert [stated.from_hour for stated in world.spec.state.stated[node(NODE)]] == [FIRST, FIRST + 2]
    pass_day(world, kept=0)
    assert trials(world, device(NODE)) == (0, 2)
    assert len(world.spec.state.stated[node(NODE)]) == 1, "what no hour asks for any more is forgotten"


def test_retirement_ends_trials_and_another_node_with_the_device_goes_on_from_them(world: World) -> None:
    adopt(world, NODE, NOW_MS)
    pass_day(world, kept=0)
    before = trials(world, device(NODE))
    world.spec.knowing(Emit(node(NODE), registry.NodeRetired(node(NODE), "jws")))
    adopt(world, NODE, NOW_MS + DAY)
    world.at(NOW_MS + 2 * DAY)
    world.close(world.spec.state.next_live)
    assert node(NODE) not in world.spec.state.stated
    won, lost = trials(world, device(NODE))
    assert (won, lost) == (before[0], before[1] + 1), "only the last hour before it"
    fact = registry.NodeRegistered(
        node("again"),
        member("other-provider"),
        world.spec.directory.nodes[node(NODE)].fact.key,
        "DE",
        world.spec.directory.nodes[node(NODE)].fact.devices,
        4_000,
        8_000,
        registry.Window(),
        1,
        True,  # noqa: FBT003 - the only value there is
        "jws",
    )
    world.spec.knowing(Emit(node("again"), fact), Emit(node("again"), registry.NodeActivated(node("again"))))
    adopt(world, "again", NOW_MS + 2 * DAY)
    assert trials(world, device(NODE)) == (won, lost), "re-registration heals nothing"


def test_nothing_is_taken_over_where_the_rules_ask_for_no_heartbeats() -> None:
    world = World().with_node(NODE)
    adopt(world, NODE, NOW_MS)
    assert not world.spec.state.stated


def test_the_same_window_again_is_nothing_new(world: World) -> None:
    adopt(world, NODE, NOW_MS)
    adopt(world, NODE, NOW_MS + HOUR)
    assert len(world.spec.state.stated[node(NODE)]) == 1


def test_availability_bounds_reliability_from_the_founding_on_and_not_in_a_backfill(world: World) -> None:
    adopt(world, NODE, NOW_MS)
    pass_day(world)
    state = world.spec.state
    record = state.records[device(NODE)]
    epoch = state.next_live
    assert reliability(record, state.grid, epoch, availability=True) == (EMPTY, "challenges")
    many = Record(challenges=((state.grid.tick_of_epoch(epoch), 1_000, 0, 1_000),), availability=record.availability)
    found = reliability(many, state.grid, epoch, availability=True)
    assert found == (lower_bound(23, 0, 1), "availability")
    assert reliability(many, state.grid, epoch, availability=False)[1] == "challenges"


def test_a_node_that_falls_silent_is_seen_in_its_reliability(world: World) -> None:
    adopt(world, NODE, NOW_MS)
    world.results(NODE, 0, "T4", ["5600"] * 6, NOW_MS)
    for day in range(3):
        world.at(NOW_MS + day * DAY)
        world.lease(f"day {day}", NOW_MS + day * DAY, NOW_MS + (day + 1) * DAY)
        pass_day(world, day, kept=60 if day < 2 else 0)
    standing = world.spec.state.standings[device(NODE)]
    world.at(NOW_MS + 3 * DAY)
    world.lease("day 3", NOW_MS + 3 * DAY, NOW_MS + 4 * DAY)
    world.at(NOW_MS + 4 * DAY)
    changes = [fact for fact in world.close(world.spec.state.next_live) if isinstance(fact, ReliabilityChanged)]
    mine = next(change for change in changes if change.subject == device(NODE))
    assert mine.after_ppm < standing.ppm
    assert mine.cause == "lower bound of availability"


# --- maintenance -------------------------------------------------------------------------------------------------


def announce(world: World, first: int, hours: int, actor: str = "provider") -> None:
    world.spec.when(AnnounceMaintenance(node(NODE), first, hours, "jws"), member(actor))


def test_announced_hours_are_no_trials(world: World) -> None:
    adopt(world, NODE, NOW_MS)
    announce(world, FIRST + 3, 2)
    pass_day(world, hours=range(5, 24))
    assert trials(world, device(NODE)) == (18, 3)


def test_maintenance_is_announced_an_hour_ahead(world: World) -> None:
    announce(world, FIRST + 1, 1)
    world.at(NOW_MS + 1)
    with pytest.raises(MaintenanceTooLate):
        announce(world, FIRST + 1, 1)


def test_maintenance_is_capped_over_any_thirty_days(world: World) -> None:
    announce(world, FIRST + 100, 5)
    announce(world, FIRST + 100, 5)
    announce(world, FIRST + 200, 3)
    with pytest.raises(MaintenanceCapReached):
        announce(world, FIRST + 819, 1)
    announce(world, FIRST + 820, 5)
    with pytest.raises(MaintenanceCapReached):
        announce(world, FIRST + 5_000, 9)


def test_only_the_owner_announces_maintenance(world: World) -> None:
    with pytest.raises(NotNodeOwner):
        announce(world, FIRST + 2, 1, "other-provider")


def test_the_state_with_hours_survives_a_snapshot(world: World) -> None:
    adopt(world, NODE, NOW_MS)
    announce(world, FIRST + 40, 2)
    pass_day(world)
    state = world.spec.state
    assert state.hours
    assert state.stated
    assert thaw(freeze(state), Metering) == state


def test_what_is_taken_over_of_a_node_stands_in_the_fact(world: World) -> None:
    (fact,) = world.spec.when(AdoptNode(node(NODE), NOW_MS), "policy/metering.adopt")
    assert fact == NodeAdopted(node(NODE), member("provider"), (device(NODE),), registry.Window(), FIRST, "DE")


def test_a_new_device_starts_no_higher_than_its_owner_s_device_that_went_silent(world: World) -> None:
    adopt(world, NODE, NOW_MS)
    pass_day(world, kept=0)
    missed = trials(world, device(NODE))
    world.with_node("new", model="A30").lease("a", NOW_MS + DAY, NOW_MS + DAY + HOUR, models=("A30",))
    world.at(NOW_MS + 2 * DAY).close(world.spec.state.next_live)
    assert missed == (0, 23)
    assert world.spec.state.standings[device("new")].ppm == lower_bound(0, 23, 1) < EMPTY
