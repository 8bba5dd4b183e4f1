"""Energy and carbon of a node in an epoch: sets of intervals, conserved, at a named factor."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from fractions import Fraction
from itertools import permutations
from typing import Any

import msgspec
import pytest

from events.genesis import CarbonFactor, MeteringRules
from events.metering import Carbon, EpochPaged, NodeAdopted, NodeScore, ReadingsRecorded
from events.registry import Embodied, NodeActivated, Window
from services.kernel.decider import Emit
from services.kernel.errors import MalformedRequest
from services.kernel.snapshot import freeze, thaw
from services.metering.batches import EnergyReading, read_batch
from services.metering.energy import carbon_milligrams, embodied_milligrams, metered
from services.metering.state import Metering
from tests.heartbeat_world import adopt
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, World, batch, device, lease_id, node, signed

NODE = "one"
FACTOR = CarbonFactor(zone="DE", id="uba-2024", year=2024, method="average", grams_per_kwh=363, low=340, high=430)


EMBODIED = Embodied(1_283_000, 4 * 8_760, "server PCF, 2024")


def founded(*factors: CarbonFactor, embodied: Embodied | None = None) -> World:
    world = World(close_after_seconds=0, rules=MeteringRules(carbon_factors=factors)).with_node(NODE)
    if embodied is not None:
        plain = world.spec.directory.nodes[node(NODE)].fact
        world = World(close_after_seconds=0, rules=MeteringRules(carbon_factors=factors))
        stated = msgspec.structs.replace(plain, embodied=embodied)
        world.spec.knowing(Emit(node(NODE), stated), Emit(node(NODE), NodeActivated(node(NODE))))
    adopt(world, NODE, NOW_MS)
    world.lease("a", NOW_MS, NOW_MS + 24 * HOUR)
    return world.at(NOW_MS + 10 * MINUTE)


@pytest.fixture
def world() -> World:
    return founded(FACTOR)


def with_energy(energy: Any, number: int = 0, level: int = 1_000, start: int = NOW_MS) -> str:
    reading = (device(NODE), lease_id("a"), start, start + 5 * MINUTE, level)
    text = batch(NODE, [reading], number).split(".")[1]
    payload = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return signed(msgspec.json.encode(payload | {"energy": energy}), NODE)


def meter(start: int, minutes: int, micro_kwh: int, name: str = "rapl:package-0") -> EnergyReading:
    return (NOW_MS + start * MINUTE, NOW_MS + (start + minutes) * MINUTE, micro_kwh, name)


def record(world: World, *energy: EnergyReading, number: int = 0, level: int = 1_000) -> ReadingsRecorded:
    return world.record_jws(NODE, with_energy(energy, number, level))


def pages(world: World, day: int = 1) -> Sequence[NodeScore]:
    world.at(NOW_MS + day * DAY)
    facts = world.close(world.spec.state.next_live)
    return [score for fact in facts if isinstance(fact, EpochPaged) for score in fact.nodes]


def test_energy_and_carbon_stand_beside_the_score_with_factor_year_method_and_range(world: World) -> None:
    record(world, meter(0, 5, 10_000), meter(0, 5, 30_000, "nvml:0"), meter(5, 5, 2_000))
    (score,) = pages(world)
    energy = score.energy
    assert energy is not None
    assert (score.energy_micro_kwh, score.carbon_milligrams, score.carbon_factor) == ("42000", "15246", "uba-2024")
    assert (energy.meter_micro_kwh, energy.sources) == ("42000", ("nvml:0", "rapl:package-0"))
    # Five minutes of one whole device were used, out of a day of it.
    assert (energy.operations_micro_kwh, energy.idle_micro_kwh) == ("145", str(42_000 - 145))
    carbon = energy.carbon
    assert carbon is not None
    assert (carbon.milligrams, carbon.low_milligrams, carbon.high_milligrams) == ("15246", "14280", "18060")
    assert (carbon.factor, carbon.year, carbon.method) == ("uba-2024", 2024, "average")
    assert carbon.sci_milligrams is not None


def test_a_node_without_a_score_has_no_rate_of_carbon(world: World) -> None:
    record(world, meter(0, 5, 10_000), level=0)
    (score,) = pages(world)
    assert score.micro_rgpu_hours == "0"
    assert score.energy
    assert score.energy.carbon is not None
    assert score.energy.carbon.sci_milligrams is None, "nothing is divided by nothing"
    assert score.energy.operations_micro_kwh == "0"


def test_operations_and_declared_idle_are_the_meter_exactly(world: World) -> None:
    record(world, meter(0, 5, 9_999_999), level=333)
    energy = pages(world)[0].energy
    assert energy is not None
    assert int(energy.operations_micro_kwh) + int(energy.idle_micro_kwh) == int(energy.meter_micro_kwh) == 9_999_999


def test_a_community_without_factors_takes_no_world_average() -> None:
    world = founded()
    record(world, meter(0, 5, 10_000))
    assert not pages(world)[0].energy


def test_a_pue_is_part_of_carbon_and_never_of_the_meter() -> None:
    assert carbon_milligrams(1_000_000, None, 363) == 363_000
    assert carbon_milligrams(1_000_000, 1_500, 363) == 544_500


def test_order_repetition_and_batching_of_energy_cannot_matter() -> None:
    parts = [(meter(0, 5, 10_000),), (meter(5, 5, 7_000), meter(0, 5, 10_000)), (meter(2, 4, 9_000),)]
    found = set()
    for order in permutations(parts):
        world = founded(FACTOR)
        for number, energy in enumerate(order):
            world.record_jws(NODE, with_energy(energy, number, start=NOW_MS + number * 5 * MINUTE))
        score = pages(world)[0].energy
        assert score is not None
        found.add(score.meter_micro_kwh)
    assert len(found) == 1


def test_where_readings_of_one_meter_disagree_the_higher_counts() -> None:
    low, high = (0, 10, 100, "m"), (5, 15, 200, "m")
    assert metered([low, high], 0, 20) == 50 + 200
    assert metered([low, (0, 10, 90, "m")], 0, 20) == 100
    assert metered([low], 5, 20) == 50
    assert metered([(0, 3, 10, "m")], 1, 2) == Fraction(10, 3)
    assert metered([], 0, 20) == 0


def test_energy_out_of_form_or_time_counts_nothing_and_hides_nothing(world: World) -> None:
    bad = [
        meter(0, 0, 1),
        meter(0, 61, 1),
        meter(0, 5, -1),
        meter(0, 5, 10**9 + 1),
        meter(0, 5, 1, "No Meter"),
        meter(20, 5, 1),
        meter(-36 * 24 * 60, 5, 1),
        meter(-60, 5, 1),
    ]
    fact = record(world, *bad, meter(0, 5, 10_000))
    assert fact.energy_rejected == tuple(range(8))
    energy = pages(world)[0].energy
    assert energy is not None
    assert energy.meter_micro_kwh == "10000"


@pytest.mark.parametrize("energy", [[[1, 2, 3]], [[1, 2, 3, 4]], [[1, 2, 3.5, "m"]], [[1, 2, 3, "m"]] * 501, "none"])
def test_energy_of_another_form_is_refused(energy: Any) -> None:
    with pytest.raises(MalformedRequest):
        read_batch(with_energy(energy))


def test_energy_never_changes_a_score(world: World) -> None:
    plain = founded(FACTOR)
    record(plain)
    record(world, meter(0, 5, 10_000), meter(0, 5, 10_000, "nvml:0"))
    (with_it,), (without,) = pages(world), pages(plain)
    assert (with_it.micro_rgpu_hours, with_it.devices) == (without.micro_rgpu_hours, without.devices)


def test_a_node_that_only_idled_stands_in_the_page_with_its_energy(world: World) -> None:
    pages(world)
    world.at(NOW_MS + DAY + 10 * MINUTE)
    energy = meter(24 * 60, 1, 500)
    world.record_jws(NODE, with_energy([energy], start=NOW_MS + DAY - 5 * MINUTE))
    (score,) = pages(world, 2)
    assert (score.node, score.micro_rgpu_hours) == (node(NODE), "0")
    assert score.energy
    assert (score.energy.operations_micro_kwh, score.energy.idle_micro_kwh) == ("0", "500")
    assert not world.spec.state.energy, "what is closed is dropped"


def test_the_state_with_energy_survives_a_snapshot(world: World) -> None:
    record(world, meter(0, 5, 10_000))
    state = world.spec.state
    assert state.energy
    assert thaw(freeze(state), Metering) == state


def carbon_of(world: World) -> Carbon:
    (score,) = pages(world)
    assert score.energy
    assert score.energy.carbon is not None
    assert score.carbon_milligrams == score.energy.carbon.milligrams
    return score.energy.carbon


def test_what_making_a_node_emitted_is_part_of_its_carbon_its_range_and_its_rate() -> None:
    world = founded(FACTOR, embodied=EMBODIED)
    record(world, meter(0, 5, 10_000), meter(0, 5, 30_000, "nvml:0"), meter(5, 5, 2_000))
    carbon = carbon_of(world)
    # 1,283 kg over 35,040 hours are 36.615... g an hour: 878,767.12 mg in a day. The energy's 15,246 mg come to it.
    assert carbon.embodied_milligrams == "878767"
    assert carbon.milligrams == str(15_246 + 878_767) == "894013"
    assert (carbon.low_milligrams, carbon.high_milligrams) == (str(14_280 + 878_767), str(18_060 + 878_767))
    # A twelfth of an hour at 0.05 and a reliability of 0.211324 are 880.52 millionths: 881 of a reference hour.
    assert carbon.sci_milligrams == str(round(Fraction(894_013 * 10**6, 881))) == "1014770715"


def test_where_nobody_states_it_carbon_is_of_energy_alone_and_says_nothing_of_it(world: World) -> None:
    record(world, meter(0, 5, 42_000))
    carbon = carbon_of(world)
    assert (carbon.milligrams, bool(carbon.embodied_milligrams)) == ("15246", False)
    assert carbon.sci_milligrams == str(round(Fraction(15_246 * 10**6, 881))) == "17305335"
    assert b"embodied" not in msgspec.json.encode(carbon)


def test_a_node_that_scored_nothing_has_embodied_carbon_and_no_rate() -> None:
    world = founded(FACTOR, embodied=EMBODIED)
    record(world, meter(0, 5, 10_000), level=0)
    carbon = carbon_of(world)
    assert (carbon.embodied_milligrams, carbon.sci_milligrams) == ("878767", None)


@pytest.mark.parametrize(
    ("grams", "hours", "expected"),
    [(0, 8_760, 0), (1, 48_000, 0), (3, 48_000, 2), (5, 48_000, 2), (10**9, 8_760, 2_739_726_027), (1, 876_000, 0)],
)
def test_an_epoch_s_part_of_a_lifetime_is_rounded_half_even_once(grams: int, hours: int, expected: int) -> None:
    assert embodied_milligrams(Embodied(grams, hours, "datasheet"), 24 * HOUR) == expected


def test_whole_epochs_of_a_lifetime_are_all_that_making_it_emitted() -> None:
    assert 365 * embodied_milligrams(Embodied(365, 8_760, "datasheet"), 24 * HOUR) == 365_000


def test_metering_takes_over_what_the_owner_stated_and_keeps_it_in_a_snapshot() -> None:
    state = founded(FACTOR, embodied=EMBODIED).spec.state
    assert [stated.embodied for stated in state.stated[node(NODE)]] == [EMBODIED]
    assert thaw(freeze(state), Metering) == state


def test_a_node_adopted_before_anyone_could_state_it_reads_and_writes_as_it_did() -> None:
    plain = NodeAdopted(node(NODE), "member/" + "a" * 32, (device(NODE),), Window(), 1, "DE", 1_200)
    raw = msgspec.json.encode(plain)
    assert raw.endswith(b'"zone":"DE","pue_milli":1200}')
    assert msgspec.json.encode(msgspec.json.decode(raw, type=NodeAdopted)) == raw
