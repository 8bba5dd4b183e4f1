"""What one member can do to everybody: an epoch closes whatever was sent, and its figures fit where they are shown."""

from __future__ import annotations

from array import array
from fractions import Fraction
from time import perf_counter

import msgspec

from events.envelope import MAX_RECORD_BYTES, encode_data
from events.genesis import Benchmark
from events.metering import ChallengeResult, EpochClosed, EpochPaged, OverCapacityDetected
from events.values import INT64_MAX
from services.metering import steps
from services.metering.commands import CancelLease, RecordChallengeResults
from services.metering.decide.epochs import MOST_OVER, _late_pages
from services.metering.energy import MAX_METERS, metered
from tests import kinds_world
from tests.heartbeat_world import adopt, hash_of, hour_of, late_batch, record_hour
from tests.holdback_world import score
from tests.kinds_world import lease
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, TABLE, World, device, lease_id, member, node
from tests.unit.test_metering_energy import FACTOR, founded, record

NODE = "one"


def test_late_usage_of_an_epoch_is_scored_where_a_lease_cancelled_before_it_is_forgotten() -> None:
    world = World(close_after_seconds=0).with_node(NODE)
    adopt(world, NODE, NOW_MS)
    midnight = NOW_MS + DAY
    world.at(midnight - 10 * MINUTE)
    world.lease("cancelled", midnight - 10 * MINUTE, midnight + HOUR, share=400)
    world.lease("kept", midnight - 10 * MINUTE, midnight + 12 * HOUR, share=400)
    world.at(midnight - 2 * MINUTE)
    # What is read ahead lies in the next epoch, which the lease never reaches.
    world.record(NODE, (device(NODE), lease_id("cancelled"), midnight - 2 * MINUTE, midnight + 3 * MINUTE, 400))
    world.at(midnight - MINUTE)
    world.spec.when(CancelLease(lease_id("cancelled"), "jws"), member("consumer"))
    start = midnight + 5 * HOUR
    spool = [
        (device(NODE), lease_id("kept"), start + i * 5 * MINUTE, start + (i + 1) * 5 * MINUTE, 400) for i in range(12)
    ]
    epoch, hour = world.spec.state.next_live, hour_of(start)
    world.at(midnight + 1).close(epoch)
    world.at(start + HOUR + MINUTE)
    record_hour(world, NODE, hour, spool)
    for day in range(2, 37):
        world.at(NOW_MS + day * DAY + 1_000).close(world.spec.state.next_live)
    assert lease_id("cancelled") not in world.spec.state.leases
    world.at(NOW_MS + 36 * DAY + HOUR)
    world.record_jws(NODE, late_batch(NODE, spool, hour, hash_of(NODE, hour, spool)))
    assert world.spec.state.touched == {epoch + 1}
    facts = world.at(NOW_MS + 37 * DAY + 1_000).close(world.spec.state.next_live)
    assert isinstance(facts[-1], EpochClosed)


def test_an_epoch_closes_however_many_meters_a_node_names() -> None:
    world = founded(FACTOR)
    for number in range(5):
        names = [f"m{number}-{index}-{'x' * 55}"[:64] for index in range(300)]
        fact = record(world, *((NOW_MS, NOW_MS + MINUTE, 1, name) for name in names), number=number)
        rejected = range(0 if number else MAX_METERS, 300)
        assert fact.energy_rejected == tuple(rejected)
    again = record(world, (NOW_MS + MINUTE, NOW_MS + 2 * MINUTE, 1, f"m0-0-{'x' * 55}"), number=9)
    assert not again.energy_rejected, "a meter that is known goes on"
    facts = world.at(NOW_MS + DAY).close(world.spec.state.next_live)
    assert all(len(bytes(encode_data(fact))) < MAX_RECORD_BYTES - 1_000 for fact in facts)
    (shown,) = (one for fact in facts if isinstance(fact, EpochPaged) for one in fact.nodes)
    assert shown.energy
    assert (len(shown.energy.sources), shown.energy_micro_kwh) == (MAX_METERS, str(MAX_METERS + 1))


def test_readings_of_a_meter_that_all_overlap_are_summed_in_one_pass() -> None:
    readings = [(i, i + HOUR, i % 1_000, "m") for i in range(20_000)]
    began = perf_counter()
    found = metered(readings, 0, DAY)
    assert perf_counter() - began < 10, "every reading against every other takes minutes"
    assert 0 < found < Fraction(999 * (HOUR + 20_000), HOUR) + 1


def test_both_sides_of_a_lease_are_laid_over_each_other_in_one_pass() -> None:
    provider, consumer = array("q"), array("q")
    for i in range(20_000):
        steps.lay(provider, i * 10, i * 10 + 10, 500 + i % 7)
        steps.lay(consumer, i * 10 + 5, i * 10 + 15, 500 + i % 5)
    began = perf_counter()
    found = steps.agreed(provider, consumer, alone=False)
    assert perf_counter() - began < 5, "every reading against every other takes minutes"
    assert steps.covered_ms(found, 0, 200_000) == 200_000 - 5


def test_a_capacity_beyond_all_reason_leaves_figures_that_64_bits_hold() -> None:
    stated = dict(kinds_world.CAPACITY)
    try:
        kinds_world.CAPACITY["storage"] = INT64_MAX
        world = kinds_world.kinds_world()
    finally:
        kinds_world.CAPACITY.update(stated)
    lease(world, "storage", "s", NOW_MS, NOW_MS + HOUR, 1)
    facts = world.at(NOW_MS + 2 * DAY).close(world.spec.state.next_live)
    (shown,) = (one for fact in facts if isinstance(fact, EpochPaged) for one in fact.nodes)
    assert 0 < int(shown.offered_milli_ms) <= INT64_MAX


def test_only_so_many_intervals_over_capacity_are_told_of_a_device_and_none_counts() -> None:
    world = World(close_after_seconds=0).with_node(NODE)
    for name in ("a", "b"):
        world.lease(name, NOW_MS, NOW_MS + HOUR, share=500)
    world.at(NOW_MS + 10 * MINUTE)
    of, times = device(NODE), [NOW_MS + 2 * i for i in range(3 * MOST_OVER)]
    world.record(NODE, *((of, lease_id(name), at, at + 1, 900) for name in ("a", "b") for at in times))
    facts = world.at(NOW_MS + DAY).close(world.spec.state.next_live)
    assert sum(isinstance(fact, OverCapacityDetected) for fact in facts) == MOST_OVER
    (shown,) = (one for fact in facts if isinstance(fact, EpochPaged) for one in fact.nodes)
    assert (shown.node, shown.micro_rgpu_hours, shown.allocated_milli_ms) == (node(NODE), "0", "0")


def test_a_late_page_whose_nodes_are_all_held_again_fits_in_a_record() -> None:
    scores = [score(f"late-{number}", range(8)) for number in range(120)]
    names = [one.node for one in scores]
    pages = list(_late_pages(100, 110, "gpu", scores, frozenset(names)))
    assert [name for page in pages for name in page.held_again or ()] == names
    assert [one for page in pages for one in page.nodes] == scores
    assert all(len(bytes(encode_data(page))) < MAX_RECORD_BYTES - 1_000 for page in pages)
    (plain, *_) = _late_pages(100, 110, "gpu", scores, ())
    assert not plain.held_again
    assert len(plain.nodes) > len(pages[0].nodes), "it is the names that take the room"


def test_the_totals_of_an_epoch_count_a_node_that_only_its_meters_bring_into_a_page() -> None:
    world = founded(FACTOR)
    world.at(NOW_MS + DAY - 3 * MINUTE)
    # Its lease has ended, what its meters read lies in the epoch after.
    record(world, (NOW_MS + DAY, NOW_MS + DAY + MINUTE - 1, 5, "m"))
    world.at(NOW_MS + DAY).close(world.spec.state.next_live)
    facts = world.at(NOW_MS + 2 * DAY).close(world.spec.state.next_live)
    (shown,) = (one for fact in facts if isinstance(fact, EpochPaged) for one in fact.nodes)
    assert (shown.energy_micro_kwh, shown.offered_milli_ms) == ("5", "0")
    assert facts[-1].totals["gpu"].nodes == 1


def test_runs_of_another_class_are_no_measure_of_a_device_though_the_benchmark_has_the_same_name() -> None:
    train = msgspec.structs.replace(
        TABLE, work_class="train", reference=(Benchmark(name="resnet50-offline", throughput="300"),)
    )
    world = World(tables=(TABLE, train)).with_node(NODE)
    world.results(NODE, 0, "T4", ["5600"] * 3, NOW_MS)
    for number in range(2):
        end = NOW_MS + (number + 1) * MINUTE
        world.at(end)
        result = ChallengeResult(
            f"{number:032x}", device(NODE), "T4", "train", "resnet50-offline", "00" * 16, "11" * 32, end - 1, end, "300"
        )
        command = RecordChallengeResults(node(NODE), (result,), "jws", "jws")
        (fact,) = world.spec.when(command, member("operator"))
        assert fact.passed == (True,)
