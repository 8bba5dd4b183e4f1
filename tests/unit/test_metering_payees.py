"""Who is paid, from which pool and on whose word: a device of two nodes, history near the founding, one's own node."""

from __future__ import annotations

import pytest

from events.metering import EpochPaged, LateUsageScored, Lease
from events.registry import Device, NodeActivated, NodeRegistered, Window
from services.kernel.decider import Emit
from services.metering.commands import RecordChallengeResults
from services.metering.errors import DurationOutOfRange, OwnNodeChallenged
from services.metering.reliability import LEASE_UNIT, lower_bound
from services.metering.state import Record
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, ZERO_MS, World, device, key_of, lease_id, member, node

STEP = 5 * MINUTE
NAMES = {node("one"): "one", node("two"): "two"}
OWNERS = {node("one"): member("provider"), node("two"): member("other-provider")}


def twins() -> tuple[World, list[Lease]]:
    """Return a live community in which two owners' nodes lend one device id, each under a lease of its own."""
    world = World(close_after_seconds=0, epoch_seconds=3_600).with_node("one")
    devices = (Device(device("one"), "gpu", "A10", 1_000, 16_384),)
    owner, key = member("other-provider"), key_of("two")
    fact = NodeRegistered(node("two"), owner, key, "DE", devices, 4_000, 65_536, Window(), 1, True, "jws")  # noqa: FBT003
    world.spec.knowing(Emit(node("two"), fact), Emit(node("two"), NodeActivated(node("two"))))
    return world, [world.lease(name, NOW_MS, NOW_MS + HOUR) for name in ("a", "b")]


def read(world: World, lease: Lease, start_ms: int) -> None:
    world.record(NAMES[lease.node], (device("one"), lease.lease, start_ms, start_ms + STEP, 1_000))


def test_a_device_that_two_nodes_lend_earns_for_the_node_it_was_leased_from() -> None:
    world, leases = twins()
    assert {lease.node for lease in leases} == set(NAMES)
    world.at(NOW_MS + 30 * MINUTE)
    for count, lease in enumerate(leases, 1):
        for step in range(count):
            read(world, lease, NOW_MS + step * STEP)
    world.at(NOW_MS + HOUR)
    (page,) = [fact for fact in world.close(world.spec.state.first_live) if isinstance(fact, EpochPaged)]
    counted = {score.node: (score.owner, score.allocated_milli_ms) for score in page.nodes}
    assert counted == {
        lease.node: (OWNERS[lease.node], str(count * STEP * 1_000)) for count, lease in enumerate(leases, 1)
    }


def test_late_usage_of_such_a_device_is_what_its_own_node_was_not_paid_for_yet() -> None:
    world, leases = twins()
    epoch = world.spec.state.first_live
    world.at(NOW_MS + 30 * MINUTE)
    read(world, leases[0], NOW_MS)
    world.at(NOW_MS + HOUR).close(epoch)
    read(world, leases[1], NOW_MS + STEP)
    (late,) = [f for f in world.at(NOW_MS + 2 * HOUR).close(epoch + 1) if isinstance(f, LateUsageScored)]
    assert [(score.node, score.allocated_milli_ms) for score in late.nodes] == [(leases[1].node, str(STEP * 1_000))]


def test_no_lease_of_a_backfill_reaches_into_an_epoch_that_emission_pays() -> None:
    world = World(backfill_days=101, backfill_nodes=["one"]).with_node("one").open_backfill().at(NOW_MS + 20 * HOUR)
    assert world.lease("history", NOW_MS - HOUR, NOW_MS).backfill == "history"
    for start, end in ((NOW_MS - HOUR, NOW_MS + 1), (NOW_MS + HOUR, NOW_MS + 2 * HOUR)):
        with pytest.raises(DurationOutOfRange):
            world.lease("live", start, end)


def test_the_owner_of_a_node_does_not_challenge_it() -> None:
    world = World().with_node("one")
    known = world.results("one", 0, "T4", ["5600"], NOW_MS)
    command = RecordChallengeResults(node("one"), known.results, "jws", "jws")
    with pytest.raises(OwnNodeChallenged):
        world.spec.when(command, member("provider"))


@pytest.mark.parametrize(("served", "kept"), [((0, 1), True), ((0,), False)])
def test_a_lease_of_several_devices_is_one_trial_of_their_owner(served: tuple[int, ...], kept: bool) -> None:  # noqa: FBT001
    world = World(backfill_days=1, backfill_nodes=["one"]).with_node("one", 2).open_backfill()
    world.lease("a", ZERO_MS, ZERO_MS + 2 * HOUR, devices=2)
    for number in served:
        steps = range(ZERO_MS, ZERO_MS + 2 * HOUR, STEP)
        world.record("one", *((device("one", number), lease_id("a"), at, at + STEP, 1_000) for at in steps))
    world.close_backfill().close(0)
    records = world.spec.state.records
    outcomes = {True: (LEASE_UNIT, 0, 1), False: (0, LEASE_UNIT, 1)}
    for number in range(2):
        ((_, *trial),) = records[device("one", number)].leases
        assert tuple(trial) == outcomes[number in served]
    ((tick, *trial),) = records.get(member("provider"), Record()).leases
    assert tuple(trial) == outcomes[kept]
    assert tick <= world.spec.state.grid.tick_of(ZERO_MS + DAY)


def test_a_new_device_starts_no_higher_than_its_owner_s_worst_which_nobody_leased() -> None:
    world = World(backfill_days=1, backfill_nodes=["bad", "new", "old"]).with_node("bad", model="A10").open_backfill()
    world.with_node("old").results("old", 0, "T4", ["5600"] * 20, ZERO_MS - HOUR)
    world.results("bad", 0, "A10", [None] * 4, ZERO_MS - HOUR)
    world.with_node("new", model="A30").lease("a", ZERO_MS, ZERO_MS + HOUR, models=("A30",))
    world.record("new", (device("new"), lease_id("a"), ZERO_MS, ZERO_MS + STEP, 1_000))
    (page,) = [fact for fact in world.close_backfill().close(0) if isinstance(fact, EpochPaged)]
    ((score,),) = [node_score.devices for node_score in page.nodes]
    assert score.reliability_ppm == lower_bound(0, 4, 1)
