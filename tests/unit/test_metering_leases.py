"""Leases on a project's quota: their limits, where the system places them, and what they cost."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from events.registry import NodeSuspended, Window
from services.kernel.decider import Emit
from services.kernel.errors import InvalidField
from services.metering.commands import CancelLease, LeaseTerms, OpenLeases
from services.metering.errors import (
    DurationOutOfRange,
    LeaseOver,
    LeaseTaken,
    NoNodeSuits,
    NotProjectOwner,
    Oversubscribed,
    QuotaExhausted,
    StartOutOfRange,
    UnknownLease,
    UnknownProject,
)
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, ZERO_MS, World, device, lease_id, member, node

START = NOW_MS


def asked(name: object, share: int = 1_000, start: int = START, end: int = START + HOUR, **other: Any) -> LeaseTerms:
    fields: dict[str, Any] = {"kind": "gpu", "devices": 1, **other}
    return LeaseTerms(lease_id(name), share=share, start_ms=start, end_ms=end, **fields)


def test_a_lease_row_carries_all_that_its_score_will_need() -> None:
    world = World().with_node("one", model="A10")
    lease = world.lease("a", START, START + HOUR, 500)
    assert (lease.node, lease.owner, lease.work_class) == (node("one"), member("provider"), "infer")
    assert [(leased.device, leased.model) for leased in lease.devices] == [(device("one"), "A10")]
    assert (lease.linked, lease.backfill) == (None, None)


@pytest.mark.parametrize("start", [START - 5 * MINUTE, START + DAY])
def test_a_lease_may_start_five_minutes_ago_or_a_day_ahead(start: int) -> None:
    assert World().with_node("one").lease("a", start, start + HOUR).start_ms == start


@pytest.mark.parametrize("start", [START - 5 * MINUTE - 1, START + DAY + 1, ZERO_MS])
def test_a_lease_that_starts_earlier_or_later_is_refused(start: int) -> None:
    with pytest.raises(StartOutOfRange):
        World().with_node("one").lease("a", start, start + HOUR)


@pytest.mark.parametrize("length", [0, -HOUR, MINUTE - 1, DAY + 1])
def test_a_lease_of_less_than_a_minute_or_more_than_a_day_is_refused(length: int) -> None:
    with pytest.raises(DurationOutOfRange):
        World().with_node("one").lease("a", START, START + length)


def test_51_leases_are_refused_and_50_are_one_fact() -> None:
    world = World().with_node("one", 8)
    bulk = tuple(asked(number, 100) for number in range(51))
    with pytest.raises(InvalidField):
        world.leases(*bulk)
    assert len(world.leases(*bulk[:50])) == 50


def test_no_lease_at_all_is_refused() -> None:
    with pytest.raises(InvalidField):
        World().leases()


def test_a_bulk_is_all_or_none() -> None:
    world = World().with_node("one")
    before = world.spec.state
    with pytest.raises(Oversubscribed):
        world.leases(asked("a", 600), asked("b", 600))
    assert world.spec.state is before


def test_an_oversubscribed_lease_is_refused() -> None:
    world = World().with_node("one")
    world.lease("a", START, START + HOUR, 600)
    world.lease("b", START + HOUR, START + 2 * HOUR, 600)
    world.lease("c", START, START + 2 * HOUR, 400)
    with pytest.raises(Oversubscribed):
        world.lease("d", START + 30 * MINUTE, START + 31 * MINUTE, 1)
    world.lease("e", START + 2 * HOUR, START + 3 * HOUR, 1_000)


def test_capacity_is_kept_by_interval_whatever_the_order_of_leases() -> None:
    world = World().with_node("one")
    world.lease("late", START + 4 * HOUR, START + 6 * HOUR, 700)
    world.lease("early", START, START + 2 * HOUR, 700)
    # Between them there is room for a whole device, across either only for 300.
    world.lease("gap", START + 2 * HOUR, START + 4 * HOUR, 1_000)
    with pytest.raises(Oversubscribed):
        world.lease("across", START + HOUR, START + 3 * HOUR, 300)


def test_shares_that_never_meet_do_not_add_up() -> None:
    world = World().with_node("one")
    world.lease("a", START, START + HOUR, 600)
    world.lease("b", START + HOUR, START + 2 * HOUR, 600)
    assert world.lease("c", START, START + 2 * HOUR, 400).share == 400


def test_more_than_a_whole_device_is_refused() -> None:
    with pytest.raises(Oversubscribed):
        World().with_node("one").lease("a", START, START + HOUR, 1_001)


def test_the_least_used_node_is_picked() -> None:
    world = World().with_node("big", 4).with_node("small", 1)
    first = world.lease("a", START, START + HOUR, 500)
    # One of the nodes is used by a half of a device: an eighth of the big one, half of the small one.
    second = world.lease("b", START, START + HOUR, 500)
    assert {first.node, second.node} == {node("big"), node("small")}
    third = world.lease("c", START, START + HOUR, 500)
    assert third.node == node("big")


def test_a_tie_goes_to_the_lowest_hash_of_lease_and_node() -> None:
    world = World()
    names = [f"node-{number}" for number in range(8)]
    for name in names:
        world.with_node(name)
    lease = world.lease("a", START, START + HOUR)
    expected = min(map(node, names), key=lambda one: hashlib.sha256(f"{lease.lease}\0{one}".encode()).digest())
    assert lease.node == expected


def test_on_a_node_the_least_used_devices_are_picked() -> None:
    world = World().with_node("one", 3)
    first = world.lease("a", START, START + HOUR, 500)
    both = world.lease("b", START, START + HOUR, 600, devices=2)
    assert set(first.devices) & set(both.devices) == set()
    assert [leased.device for leased in both.devices] == sorted(leased.device for leased in both.devices)


def test_a_lease_spans_devices_of_one_node_only() -> None:
    world = World().with_node("one", 2).with_node("two", 2)
    with pytest.raises(NoNodeSuits):
        world.lease("a", START, START + HOUR, devices=3)


def test_only_the_models_asked_for_are_picked() -> None:
    world = World().with_node("old", model="T4").with_node("new", model="A10")
    assert world.lease("a", START, START + HOUR, models=("A10",)).node == node("new")
    with pytest.raises(NoNodeSuits):
        world.lease("b", START, START + HOUR, models=("A40",))


def test_a_suspended_node_receives_no_lease() -> None:
    world = World().with_node("one")
    world.spec.knowing(Emit(node("one"), NodeSuspended(node("one"), "steward")))
    with pytest.raises(NoNodeSuits):
        world.lease("a", START, START + HOUR)


@pytest.mark.parametrize(
    ("window", "hours", "fits"),
    [
        (Window(0, 24), (0, 24), True),
        (Window(0, 12), (0, 12), True),
        (Window(0, 12), (0, 13), False),
        (Window(0, 12), (12, 13), False),
        (Window(22, 4), (22, 28), True),
        (Window(22, 4), (21, 23), False),
        (Window(22, 4), (23, 29), False),
        (Window(22, 4), (1, 2), True),
    ],
)
def test_the_stated_window_covers_the_lease(window: Window, hours: tuple[int, int], fits: bool) -> None:  # noqa: FBT001
    # Founded at midnight, so hours of the day are hours from the founding.
    world = World().with_node("one", window=window)
    terms = ("a", START + hours[0] * HOUR, START + hours[1] * HOUR)
    if fits:
        assert world.lease(*terms).node == node("one")
    else:
        with pytest.raises(NoNodeSuits):
            world.lease(*terms)


def test_the_quota_pays_share_x_time_x_performance_rounded_up() -> None:
    world = World(quota="25000").with_node("one")
    # A device without results has factor 0.05: half of it for an hour is 0.025 reference-GPU-hours.
    assert world.lease("a", START, START + HOUR, 500).charged == "25000"
    with pytest.raises(QuotaExhausted) as refused:
        world.lease("b", START, START + MINUTE, 1)
    assert refused.value.fields["needed"] == "1"


def test_the_factor_of_the_lease_s_start_sets_its_price() -> None:
    world = World().with_node("one", model="A10")
    world.results("one", 0, "A10", ["13143.2"] * 3, NOW_MS)
    assert world.lease("a", START, START + HOUR).charged == str(2_347_000)


def test_milli_cores_have_a_quota_and_a_capacity_of_their_own() -> None:
    world = World(quota="4000").with_node("one", cpu_milli=4_000)
    lease = world.lease("a", START, START + HOUR, 3_000, 0, kind="cpu")
    assert (lease.devices, lease.charged) == ((), "3000")
    with pytest.raises(Oversubscribed):
        world.lease("b", START, START + HOUR, 1_001, 0, kind="cpu")
    with pytest.raises(QuotaExhausted):
        world.lease("c", START + HOUR, START + 3 * HOUR, 1_000, 0, kind="cpu")
    with pytest.raises(NoNodeSuits):
        world.lease("d", START, START + HOUR, 4_001, 0, kind="cpu")


def test_a_lease_id_is_used_once() -> None:
    world = World().with_node("one", 2)
    world.lease("a", START, START + HOUR)
    with pytest.raises(LeaseTaken):
        world.lease("a", START, START + HOUR)
    with pytest.raises(LeaseTaken):
        world.leases(asked("b", 10), asked("b", 10))


def test_a_lease_renews_one_of_the_same_project() -> None:
    world = World().with_node("one")
    world.lease("a", START, START + HOUR)
    assert world.lease("b", START + HOUR, START + 2 * HOUR, renews=lease_id("a")).renews == lease_id("a")
    with pytest.raises(UnknownLease):
        world.lease("c", START + HOUR, START + 2 * HOUR, renews=lease_id("none"))


@pytest.mark.parametrize(
    "changes", [{"share": 0}, {"devices": 0}, {"devices": 65}, {"kind": "storage"}, {"kind": "cpu"}]
)
def test_terms_of_another_form_are_refused(changes: dict) -> None:
    with pytest.raises(InvalidField):
        World().with_node("one").leases(asked("a", **changes))


def test_a_lease_id_is_32_hex_digits() -> None:
    with pytest.raises(InvalidField):
        World().with_node("one").leases(LeaseTerms("x" * 32, "gpu", 1, 1_000, START, START + HOUR))


def test_only_the_project_s_owner_opens_leases() -> None:
    world = World().with_node("one")
    with pytest.raises(NotProjectOwner):
        world.spec.when(OpenLeases("project", (asked("a"),), "jws"), member("provider"))
    with pytest.raises(UnknownProject):
        world.spec.when(OpenLeases("none", (asked("a"),), "jws"), member("consumer"))


def test_a_lease_with_a_node_of_one_s_own_is_linked() -> None:
    assert World().with_node("one", owner="consumer").lease("a", START, START + HOUR).linked == "owner"


def test_a_lease_inside_one_guild_is_linked() -> None:
    world = World().with_member("friend", "users").with_node("one", owner="friend")
    assert world.lease("a", START, START + HOUR).linked == "guild"


def test_a_lease_with_another_guild_is_not_linked() -> None:
    world = World().with_member("stranger", "others").with_node("one", owner="stranger")
    assert world.lease("a", START, START + HOUR).linked is None


def test_a_cancelled_lease_gives_back_what_it_did_not_use() -> None:
    world = World(quota="50000").with_node("one")
    world.lease("a", START, START + HOUR)
    world.at(START + 15 * MINUTE)
    (fact,) = world.spec.when(CancelLease(lease_id("a"), "jws"), member("consumer"))
    assert (fact.at_ms, fact.refunded) == (START + 15 * MINUTE, "37500")
    # Both its capacity and its quota are free again.
    assert world.lease("b", START + 15 * MINUTE, START + HOUR).charged == "37500"
    with pytest.raises(LeaseOver):
        world.spec.when(CancelLease(lease_id("a"), "jws"), member("consumer"))


def test_only_its_consumer_cancels_a_lease_and_only_while_it_runs() -> None:
    world = World().with_node("one")
    world.lease("a", START, START + HOUR)
    with pytest.raises(NotProjectOwner):
        world.spec.when(CancelLease(lease_id("a"), "jws"), member("provider"))
    with pytest.raises(UnknownLease):
        world.spec.when(CancelLease(lease_id("b"), "jws"), member("consumer"))
    world.at(START + HOUR)
    with pytest.raises(LeaseOver):
        world.spec.when(CancelLease(lease_id("a"), "jws"), member("consumer"))


def test_a_lease_of_an_open_backfill_may_be_old_and_long_on_named_nodes_only() -> None:
    world = World(backfill_days=10, backfill_nodes=["old"]).with_node("old", window=Window(0, 1)).with_node("new")
    with pytest.raises(StartOutOfRange):
        world.lease("a", ZERO_MS, ZERO_MS + 9 * DAY)
    world.open_backfill()
    lease = world.lease("a", ZERO_MS, ZERO_MS + 9 * DAY)
    assert (lease.node, lease.backfill) == (node("old"), "history")
    with pytest.raises(Oversubscribed):
        world.lease("b", ZERO_MS, ZERO_MS + 1)
    with pytest.raises(DurationOutOfRange):
        world.lease("c", ZERO_MS + 9 * DAY, ZERO_MS + 11 * DAY)
    with pytest.raises(StartOutOfRange):
        world.lease("d", ZERO_MS - 1, ZERO_MS + DAY)
    with pytest.raises(LeaseOver):
        world.spec.when(CancelLease(lease_id("a"), "jws"), member("consumer"))
    world.close_backfill()
    with pytest.raises(StartOutOfRange):
        world.lease("e", ZERO_MS + 9 * DAY, ZERO_MS + 10 * DAY)
