"""Readings of leases of milli-cores: taken, bounded by the lease, and not scored yet."""

from __future__ import annotations

import pytest

from events import registry
from events.metering import EpochPaged, LateUsageScored
from services.kernel.decider import Emit
from services.metering import steps
from services.metering.folding import recorded
from services.metering.state import Metering, Record
from tests.heartbeat_world import hash_of, hour_of, late_batch, record_hour
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, World, device, key_of, lease_id, member, node

NODE = "one"
CPU = device("processors")


@pytest.fixture
def world() -> World:
    world = World(close_after_seconds=0)
    fact = registry.NodeRegistered(
        node(NODE),
        member("provider"),
        key_of(NODE),
        "DE",
        (registry.Device(CPU, "cpu", "x86", 8_000), registry.Device(device(NODE), "gpu", "T4", 1_000, 16_384)),
        8_000,
        65_536,
        registry.Window(),
        1,
        True,  # noqa: FBT003 - the only value there is
        "jws",
    )
    world.spec.knowing(Emit(node(NODE), fact), Emit(node(NODE), registry.NodeActivated(node(NODE))))
    world.lease("cores", NOW_MS, NOW_MS + 2 * HOUR, share=4_000, kind="cpu", devices=0)
    world.lease("whole", NOW_MS, NOW_MS + 2 * HOUR)
    return world.at(NOW_MS + 10 * MINUTE)


def reading(level: int, of: str = CPU, lease: str = "cores") -> tuple[str, str, int, int, int]:
    return (of, lease_id(lease), NOW_MS, NOW_MS + 5 * MINUTE, level)


def test_levels_are_milli_cores_up_to_the_share_of_the_lease(world: World) -> None:
    fact = world.record(NODE, reading(4_000), reading(4_001), reading(1_000, device(NODE), "whole"))
    assert fact.rejected == {"level-out-of-range": (1,)}
    points = recorded(world.spec.state.usage, world.spec.state.first_live, (CPU, lease_id("cores")))
    assert steps.segments(points) == [(NOW_MS, NOW_MS + 5 * MINUTE, 4_000)]


def test_cores_are_read_on_the_node_s_processors_and_gpus_on_their_own(world: World) -> None:
    fact = world.record(
        NODE,
        reading(1_000, device(NODE), "cores"),
        reading(1_000, CPU, "whole"),
        reading(1_001, device(NODE), "whole"),
        reading(10),
    )
    assert fact.rejected == {"device-not-leased": (0, 1), "level-out-of-range": (2,)}


def test_cores_score_nothing_and_leave_nothing_behind(world: World) -> None:
    world.record(NODE, reading(4_000), reading(500, device(NODE), "whole"))
    world.at(NOW_MS + DAY)
    pages = [fact for fact in world.close(world.spec.state.next_live) if isinstance(fact, EpochPaged)]
    (score,) = pages[0].nodes
    assert [one.device for one in score.devices] == [device(NODE)]
    for day in (2, 3):
        world.at(NOW_MS + day * DAY)
        world.close(world.spec.state.next_live)
    state: Metering = world.spec.state
    assert not state.usage
    assert not state.covered
    assert CPU not in state.records or state.records[CPU] == Record()


def test_a_late_hour_of_cores_is_laid_and_scores_nothing(world: World) -> None:
    spool = [reading(4_000)]
    first = hour_of(NOW_MS)
    world.at(NOW_MS + HOUR)
    record_hour(world, NODE, first, spool)
    world.at(NOW_MS + DAY)
    world.close(world.spec.state.next_live)
    world.at(NOW_MS + DAY + HOUR)
    fact = world.record_jws(NODE, late_batch(NODE, spool, first, hash_of(NODE, first, spool)))
    assert fact.spool
    assert fact.spool.whole
    world.at(NOW_MS + 2 * DAY)
    assert not [fact for fact in world.close(world.spec.state.next_live) if isinstance(fact, LateUsageScored)]
