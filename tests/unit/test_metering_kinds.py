"""Every kind of resource: scored in a sub-pool of its own, reliable or not, and its energy told once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec import UNSET

from events import registry
from events.genesis import CarbonFactor
from events.metering import (
    EpochClosed,
    EpochPaged,
    LateUsageScored,
    NodeAdopted,
    NodeScore,
    OverCapacityDetected,
)
from events.registry_terms import KINDS, DeviceKind
from services.kernel.decider import Emit
from services.kernel.errors import InvalidField
from services.kernel.snapshot import freeze, thaw
from services.metering import steps
from services.metering.energy import fold_energy
from services.metering.reliability import LEASE_UNIT
from services.metering.state import Metering
from tests.kinds_world import (
    DEVICES,
    MODELS,
    NODE,
    WHOLE,
    consume,
    kinds_world,
    lease,
    prove,
    slots,
    table,
    tried,
    with_all,
)
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, TABLE, World, lease_id, member, node

OTHERS: tuple[DeviceKind, ...] = ("cpu", "storage", "bandwidth")
END = NOW_MS + 2 * HOUR


def closed(world: World, epoch: int | None = None) -> tuple[dict[str, NodeScore], EpochClosed]:
    """Close the next live epoch a day after its end; return its entry per kind, and the closing fact."""
    facts = close(world, epoch)
    entries = {page.kind or "gpu": page.nodes[0] for page in facts if isinstance(page, EpochPaged)}
    return entries, next(fact for fact in facts if isinstance(fact, EpochClosed))


def close(world: World, epoch: int | None = None) -> list[Any]:
    epoch = world.spec.state.next_live if epoch is None else epoch
    world.at(max(world.spec.now_us // 1_000, world.spec.state.grid.end(epoch) + DAY))
    return list(world.close(epoch))


def micro(world: World) -> dict[str, str]:
    return {kind: score.micro_rgpu_hours for kind, score in closed(world)[0].items()}


def everything(world: World) -> None:
    """An hour of half a GPU, 4 cores, 100 GB of which half an hour is proved, and 10 MB/s of which 8 arrived."""
    shares: dict[DeviceKind, int] = {"gpu": 500, "cpu": 4_000, "storage": 100_000, "bandwidth": 10_000}
    for kind, share in shares.items():
        lease(world, kind, kind, NOW_MS, END, share)
    world.at(NOW_MS + HOUR)
    world.record(NODE, *(one for kind, share in shares.items() for one in slots(kind, kind, share)))
    consume(world, slots("bandwidth", "bandwidth", 8_000, count=6))
    prove(world, "storage", NOW_MS + 30 * MINUTE)


def test_an_epoch_of_every_kind_is_scored_in_sub_pools_of_their_own() -> None:
    world = kinds_world()
    everything(world)
    entries, fact = closed(world)
    # Unit-hours x 0.05 (fewer than 3 results) x 0.211324 (no trial yet): 0.5 GPU-hours, 4 core-hours, 100 GB for the
    # half hour that was proved, and the 8 MB/s of half an hour that both sides saw.
    assert {kind: entry.micro_rgpu_hours for kind, entry in entries.items()} == {
        "gpu": "5283",
        "cpu": "42265",
        "storage": "528310",
        "bandwidth": "42265",
    }
    assert [entry.allocated_milli_ms for entry in entries.values()] == [
        str(500 * HOUR),
        str(4_000 * HOUR),
        str(100_000 * HOUR // 2),
        str(8_000 * HOUR // 2),
    ]
    assert [entry.utilised_milli_ms for entry in entries.values()] == [
        str(share * HOUR) for share in (500, 4_000, 100_000, 10_000)
    ]
    assert {kind: entry.offered_milli_ms for kind, entry in entries.items()} == {
        kind: str(WHOLE[kind] * DAY) for kind in KINDS
    }
    assert [one.work_class for entry in entries.values() for one in entry.devices] == ["infer", *OTHERS]
    assert list(fact.totals) == list(KINDS)
    assert {kind: total.micro_rgpu_hours for kind, total in fact.totals.items()} == {
        kind: entry.micro_rgpu_hours for kind, entry in entries.items()
    }
    assert sorted(fact.table_sha256) == ["bandwidth", "cpu", "infer", "storage"]


def test_pages_hold_one_kind_each_and_are_numbered_through() -> None:
    world = kinds_world()
    everything(world)
    facts = close(world)
    pages = [fact for fact in facts if isinstance(fact, EpochPaged)]
    assert [(page.page, page.kind or None) for page in pages] == [
        (0, None),
        (1, "cpu"),
        (2, "storage"),
        (3, "bandwidth"),
    ]
    assert facts[-1].pages == 4


def test_three_results_make_a_factor_and_a_reliability_of_any_kind() -> None:
    world = kinds_world()
    tried(world, "cpu", ["200", "200", "200"], NOW_MS - MINUTE)
    everything(world)
    # The median is 2.0, capped at 1.25 x the table's 1.0; three passed challenges bound R at 0.636700.
    assert micro(world)["cpu"] == str(4 * 636_700 * 125 // 100)


def test_a_class_without_a_table_is_not_payable() -> None:
    world = kinds_world(tables=(TABLE, table("cpu")))
    everything(world)
    assert micro(world) == {"gpu": "5283", "cpu": "42265", "storage": "0", "bandwidth": "0"}


def test_a_kind_without_a_sub_pool_is_recorded_and_not_scored() -> None:
    world = kinds_world("gpu", "cpu")
    everything(world)
    entries, fact = closed(world)
    assert list(entries) == list(fact.totals) == ["gpu", "cpu"]
    page = world.spec.state.usage[world.spec.state.next_live - 1]
    assert steps.segments(steps.load(page[DEVICES["storage"], lease_id("storage")]))


def test_gpus_have_totals_even_where_they_have_no_sub_pool() -> None:
    world = kinds_world("cpu")
    everything(world)
    entries, fact = closed(world)
    assert list(entries) == ["cpu"]
    assert (list(fact.totals), fact.totals["gpu"].nodes) == (["gpu", "cpu"], 0)


def test_what_was_not_proved_earns_nothing() -> None:
    world = kinds_world()
    lease(world, "storage", "a", NOW_MS, END, 100)
    world.at(NOW_MS + HOUR)
    world.record(NODE, *slots("storage", "a", 100))
    prove(world, "a", NOW_MS + HOUR, passed=False)
    assert micro(world) == {"storage": "0"}


def test_bandwidth_that_its_consumer_did_not_see_earns_nothing_even_where_a_challenge_passed() -> None:
    world = kinds_world()
    lease(world, "bandwidth", "a", NOW_MS, END, 10_000)
    world.at(NOW_MS + HOUR)
    world.record(NODE, *slots("bandwidth", "a", 10_000))
    tried(world, "bandwidth", ["100"], NOW_MS + 50 * MINUTE)
    entries, _ = closed(world)
    assert (entries["bandwidth"].micro_rgpu_hours, entries["bandwidth"].allocated_milli_ms) == ("0", "0")
    assert entries["bandwidth"].utilised_milli_ms == str(10_000 * HOUR)


@pytest.mark.parametrize("kind", OTHERS)
def test_a_lease_between_linked_parties_earns_nothing_of_any_kind(kind: DeviceKind) -> None:
    world = kinds_world("gpu", *OTHERS)
    world.spec.directory = World().spec.directory  # forget the node, and lend it by the consumer itself
    with_all(world, owner="consumer")
    found = lease(world, kind, "a", NOW_MS, END, 100)
    assert found.linked == "owner"
    world.at(NOW_MS + HOUR)
    world.record(NODE, *slots(kind, "a", 100))
    consume(world, slots(kind, "a", 100))
    prove(world, "a", NOW_MS + HOUR)
    entries, _ = closed(world)
    assert (entries[kind].micro_rgpu_hours, entries[kind].utilised_milli_ms) == ("0", str(100 * HOUR))


def test_an_instant_read_above_the_whole_device_pays_nobody() -> None:
    world = kinds_world()
    for name in ("a", "b"):
        lease(world, "cpu", name, NOW_MS, END, 4_000)
    world.at(NOW_MS + HOUR)
    world.record(NODE, *slots("cpu", "a", 8_000, 0, 2), *slots("cpu", "b", 4_000, 1, 2))
    facts = close(world)
    over = [fact for fact in facts if isinstance(fact, OverCapacityDetected)]
    assert [(fact.device, fact.level, fact.end_ms - fact.start_ms) for fact in over] == [
        (DEVICES["cpu"], 12_000, 5 * MINUTE)
    ]
    (page,) = [fact for fact in facts if isinstance(fact, EpochPaged)]
    assert page.nodes[0].allocated_milli_ms == str(2 * 4_000 * 5 * MINUTE)


# --- late usage


def test_what_comes_after_the_close_is_scored_per_kind() -> None:
    world = kinds_world(close_after_seconds=0)
    start = NOW_MS + 23 * HOUR
    world.at(start)
    for kind, share in (("cpu", 4_000), ("bandwidth", 10_000)):
        lease(world, kind, kind, start, start + HOUR, share)
    readings = [one for kind in ("cpu", "bandwidth") for one in slots(kind, kind, 1_000, 23 * 12)]
    world.at(NOW_MS + DAY)
    world.record(NODE, *(one for one in readings if one[0] == DEVICES["bandwidth"]))
    world.close(100)
    world.at(NOW_MS + DAY + 5 * MINUTE)
    world.record(NODE, *(one for one in readings if one[0] == DEVICES["cpu"]), number=1)
    consume(world, [one for one in readings if one[0] == DEVICES["bandwidth"]])
    world.at(NOW_MS + 2 * DAY)
    late = [fact for fact in world.close(101) if isinstance(fact, LateUsageScored)]
    assert [(fact.kind, fact.epoch, fact.page, fact.pages, fact.total_micro_rgpu_hours) for fact in late] == [
        ("cpu", 100, 0, 1, "10566"),
        ("bandwidth", 100, 0, 1, "10566"),
    ]


# --- reliability


def test_an_ended_lease_of_any_kind_is_a_trial_of_its_unit_hours() -> None:
    world = kinds_world(close_after_seconds=86_400)
    half_hour = NOW_MS + 30 * MINUTE
    lease(world, "cpu", "long", NOW_MS, END, 4_000)
    lease(world, "storage", "short", NOW_MS, half_hour, 200)
    lease(world, "bandwidth", "missed", NOW_MS, half_hour, 1_000)
    world.at(NOW_MS + HOUR)
    world.record(NODE, *slots("cpu", "long", 4_000), *slots("storage", "short", 200, count=6))
    world.at(END)
    world.record(NODE, *slots("cpu", "long", 4_000, 12), number=1)
    close(world)
    records = world.spec.state.records
    assert records[DEVICES["cpu"]].leases[0][1:] == (LEASE_UNIT, 0, 1)
    assert records[DEVICES["storage"]].leases[0][1:] == (200 * 30 * MINUTE, 0, 1)
    assert records[DEVICES["bandwidth"]].leases[0][1:] == (0, 1_000 * 30 * MINUTE, 1)
    assert records[member("provider")].leases[0][3] == 3


def test_a_lease_of_a_kind_that_is_not_scored_is_no_trial() -> None:
    world = kinds_world("gpu")
    lease(world, "bandwidth", "a", NOW_MS, NOW_MS + HOUR, 1_000)
    close(world)
    assert not world.spec.state.records


def test_a_device_is_tried_for_a_class_of_its_own_kind() -> None:
    world = kinds_world()
    with pytest.raises(InvalidField):
        world.results(NODE, 1, MODELS["cpu"], ["5600"], NOW_MS)


# --- what was there before


def test_cores_only_hold_capacity_where_nothing_names_sub_pools() -> None:
    world = with_all(World())
    found = lease(world, "cpu", "a", NOW_MS, END, 4_000)
    assert found.devices == ()
    assert found.work_class == "infer"
    assert (found.whole, found.content) == (UNSET, UNSET)


def test_the_state_of_all_kinds_stands_in_a_snapshot_and_is_forgotten_in_time() -> None:
    world = kinds_world()
    everything(world)
    state: Metering = world.spec.state
    assert thaw(freeze(state), Metering) == state
    for day in range(1, 40):
        world.at(NOW_MS + (day + 1) * DAY)
        world.close(99 + day)
    state = world.spec.state
    assert not state.bookings
    assert (len(state.usage), len(state.consumed), len(state.leases), len(state.paid)) == (0, 0, 0, 0)


# --- energy


@pytest.mark.parametrize(("kinds", "first"), [(("gpu", "cpu"), "gpu"), (("cpu", "storage"), "cpu"), ((), "gpu")])
def test_a_node_s_energy_stands_once_at_its_first_entry(kinds: tuple[DeviceKind, ...], first: DeviceKind) -> None:
    factor = CarbonFactor(zone="DE", id="x", year=2024, method="average", grams_per_kwh=400, low=300, high=500)
    world = kinds_world(carbon_factors=(factor,))
    adopted = NodeAdopted(node(NODE), member("provider"), tuple(DEVICES.values()), registry.Window(), 0, "DE")
    world.spec.given(Emit(node(NODE), adopted))
    for kind in kinds:
        lease(world, kind, kind, NOW_MS, END, 100)
    world.at(NOW_MS + HOUR)
    for number, kind in enumerate(kinds):
        world.record(NODE, *slots(kind, kind, 100), number=number)
    state = world.spec.state
    world.spec.state = replace(state, energy=fold_energy(state, node(NODE), [(NOW_MS, NOW_MS + HOUR, 7_000, "rapl:0")]))
    entries, _ = closed(world)
    assert list(entries) == list(kinds or ("gpu",))
    assert [kind for kind, entry in entries.items() if entry.energy] == [first]
    found = entries[first].energy
    assert found
    assert found.carbon
    assert (found.meter_micro_kwh, found.carbon.sci_milligrams is not None) == ("7000", kinds[:1] == ("gpu",))
