"""Metering for any evidence: what cannot matter does not, and no evidence withheld, late or spoiled raises pay."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from events.metering import EpochPaged, LateUsageScored
from services.metering.errors import NoReadingStands
from services.metering.grid import Grid
from services.metering.performance import performance_factor
from services.metering.reliability import LEASE_UNIT, add_trial, estimate
from services.metering.scoring import micro_rgpu_hours
from services.metering.service import service
from services.metering.state import Metering, Result
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, TABLE, ZERO_MS, World, lease_id, node
from tests.model import MeteringModel, metering_bound, metering_score

SHARES = {"c": 1_000, "a": 600, "b": 400}
"""A lease with a device of its own, and two that share the other one: they are placed in this order."""

MIDNIGHT = ZERO_MS + DAY
"""Readings lie around the end of the first epoch, so that runs are cut there."""

EPOCHS = {0: range(-400, 0), 1: range(400)}

reading = st.tuples(
    st.sampled_from(sorted(SHARES)), st.integers(-30, 30), st.integers(1, 5), st.sampled_from((0, 100, 400, 600, 1_000))
)
readings = st.lists(reading, min_size=1, max_size=40)
quick = settings(max_examples=60, deadline=None)


def history() -> tuple[World, dict[str, str]]:
    """Return a history of two T4s with results and three leases, and the device of each lease."""
    world = World(backfill_days=2, backfill_nodes=["one"]).with_node("one", 2).open_backfill()
    for number in range(2):
        world.results("one", number, "T4", ["5600", "5700", "5500", "4000", "5600"], ZERO_MS - HOUR)
    devices = {}
    for name, share in SHARES.items():
        devices[name] = world.lease(name, MIDNIGHT - 6 * HOUR, MIDNIGHT + 6 * HOUR, share).devices[0].device
    return world, devices


def placed(devices: dict[str, str], one: tuple[str, int, int, int]) -> tuple[str, str, int, int, int]:
    name, first, minutes, level = one
    start = MIDNIGHT + first * MINUTE
    return devices[name], lease_id(name), start, start + minutes * MINUTE, level


def record(world: World, devices: dict[str, str], *batches: list[tuple[str, int, int, int]]) -> None:
    for number, batch in enumerate(batches):
        if batch:
            world.record("one", *(placed(devices, one) for one in batch), number=number)


def scored(world: World) -> list[EpochPaged]:
    world.close_backfill()
    return [fact for epoch in range(2) for fact in world.close(epoch) if isinstance(fact, EpochPaged)]


def pay(facts: list[EpochPaged | LateUsageScored]) -> int:
    return sum(int(score.micro_rgpu_hours) for fact in facts for score in fact.nodes)


@quick
@given(readings, st.data())
def test_order_repetition_slicing_and_batching_cannot_matter(given_readings: list, data: st.DataObject) -> None:
    world, devices = history()
    record(world, devices, given_readings)
    sliced = [(name, first + at, 1, level) for name, first, minutes, level in given_readings for at in range(minutes)]
    again = data.draw(st.lists(st.sampled_from(given_readings), max_size=10))
    messy = data.draw(st.permutations([*sliced, *again]))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(messy)), max_size=5)))
    other, same = history()
    assert same == devices
    edges = zip([0, *cuts], [*cuts, len(messy)], strict=True)
    record(other, devices, *(list(messy[start:end]) for start, end in edges))
    assert world.spec.state.usage == other.spec.state.usage
    assert scored(world) == scored(other)


@quick
@given(readings)
def test_the_rules_agree_with_the_naive_model(given_readings: list) -> None:
    world, devices = history()
    record(world, devices, given_readings)
    model = MeteringModel({lease_id(name): share for name, share in SHARES.items()})
    for name, first, minutes, level in given_readings:
        model.read(devices[name], lease_id(name), first, minutes, level)
    for page in scored(world):
        (score,) = page.nodes
        minutes = EPOCHS[page.epoch]
        counted = {device: model.counted(device, minutes) * MINUTE for device in set(devices.values())}
        assert int(score.allocated_milli_ms) == sum(counted.values())
        assert int(score.utilised_milli_ms) == sum(model.utilised(one, minutes) * MINUTE for one in counted)
        assert {part.device: int(part.share_milli_ms) for part in score.devices if part.share_milli_ms != "0"} == {
            device: share for device, share in counted.items() if share
        }
        parts = [(int(p.share_milli_ms), p.performance_factor, p.reliability_ppm) for p in score.devices]
        assert int(score.micro_rgpu_hours) == metering_score(parts)


@quick
@given(readings)
def test_no_lease_counts_more_than_its_share_of_the_time_that_was_read(given_readings: list) -> None:
    world, devices = history()
    record(world, devices, given_readings)
    read = {(name, minute) for name, first, minutes, _ in given_readings for minute in range(first, first + minutes)}
    most = sum(SHARES[name] * MINUTE for name, _ in read)
    assert sum(int(score.allocated_milli_ms) for page in scored(world) for score in page.nodes) <= most


honest = st.lists(
    st.tuples(st.sampled_from(sorted(SHARES)), st.integers(-6, 5)), min_size=1, max_size=20, unique=True
).map(lambda slots: [(name, slot * 5, 5, SHARES[name]) for name, slot in slots])
"""Readings of whole five-minute slots at the share of the lease: what an honest node sends."""


@quick
@given(honest, st.data())
def test_withholding_readings_never_raises_pay(given_readings: list, data: st.DataObject) -> None:
    kept = data.draw(st.lists(st.sampled_from(given_readings), unique=True))
    world, devices = history()
    record(world, devices, given_readings)
    other, _ = history()
    record(other, devices, kept)
    assert pay(scored(other)) <= pay(scored(world))


@quick
@given(honest, st.data())
def test_spoiling_readings_never_raises_pay(given_readings: list, data: st.DataObject) -> None:
    spoiled = data.draw(st.lists(st.sampled_from(given_readings), unique=True))
    how = data.draw(
        st.sampled_from([lambda r: (*r[:2], 6, r[3]), lambda r: (*r[:3], 1_001), lambda r: (*r[:3], r[3] // 2)])
    )
    world, devices = history()
    record(world, devices, given_readings)
    other, _ = history()
    try:
        record(other, devices, [how(one) if one in spoiled else one for one in given_readings])
    except NoReadingStands:
        assert set(spoiled) == set(given_readings)
    assert pay(scored(other)) <= pay(scored(world))


def live(delays: list[int | None]) -> int:
    """Return what an hour of five-minute readings earns when each comes so many minutes after its end (None: never)."""
    world = World(epoch_seconds=3_600, close_after_seconds=0).with_node("one")
    lease = world.lease("a", NOW_MS, NOW_MS + 2 * HOUR)
    device, epoch = lease.devices[0].device, world.spec.state.first_live
    arrivals = sorted((slot * 5 + 5 + delay, slot) for slot, delay in enumerate(delays) if delay is not None)
    facts: list[EpochPaged | LateUsageScored] = []
    closed = 0
    for minute, slot in [*arrivals, (10_000, -1)]:
        while closed < 6 and (closed + 1) * 60 <= minute:
            world.at(NOW_MS + (closed + 1) * HOUR)
            facts += [fact for fact in world.close(epoch + closed) if isinstance(fact, EpochPaged | LateUsageScored)]
            closed += 1
        if slot >= 0:
            world.at(NOW_MS + minute * MINUTE)
            start = NOW_MS + slot * 5 * MINUTE
            world.record("one", (device, lease.lease, start, start + 5 * MINUTE, 1_000))
    return pay(facts)


on_time = live([0] * 12)


@quick
@given(st.lists(st.none() | st.integers(0, 120), min_size=12, max_size=12))
def test_delaying_or_losing_readings_never_raises_pay(delays: list[int | None]) -> None:
    assert live(delays) <= on_time


@given(
    st.integers(0, 10**15), st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**12), st.integers(0, 10**6)
)
def test_a_score_rises_with_each_of_its_factors(share: int, factor: int, ppm: int, more: int, most: int) -> None:
    score = micro_rgpu_hours(share * factor * ppm)
    assert micro_rgpu_hours((share + more) * factor * ppm) >= score
    assert micro_rgpu_hours(share * (factor + most) * ppm) >= score
    assert micro_rgpu_hours(share * factor * (ppm + most)) >= score


def factor(model: str, throughputs: list[int]) -> int:
    results = [
        Result(at, f"c{at}", "resnet50-offline", "infer", value * 1_000_000, passed=True)
        for at, value in enumerate(throughputs)
    ]
    return performance_factor(results, TABLE, model, 1_000)


@given(st.lists(st.integers(0, 10**7), max_size=8), st.lists(st.integers(9_858, 10**7), min_size=3, max_size=8))
def test_equal_usage_on_a_t4_is_never_paid_above_an_a10(fast_t4: list[int], passing_a10: list[int]) -> None:
    # Whatever a T4 shows, its cap is 1.25; an A10 that passes shows at least 0.75 x 2.3470 of 5,600 per second.
    assert factor("T4", fast_t4) < factor("A10", passing_a10)


@given(st.lists(st.integers(0, 20_000), max_size=8), st.integers(0, 7), st.integers(0, 20_000))
def test_a_better_result_never_lowers_a_factor(throughputs: list[int], at: int, more: int) -> None:
    if at < len(throughputs):
        better = [value + more if number == at else value for number, value in enumerate(throughputs)]
        assert factor("T4", better) >= factor("T4", throughputs)


trial = st.tuples(st.integers(0, 60), st.booleans(), st.integers(1, LEASE_UNIT))


def bound(trials: list[tuple[int, bool, int]], now: int) -> int:
    known = ()
    for day, success, weight in trials:
        known = add_trial(known, day, weight if success else 0, 0 if success else weight)
    return estimate(known, LEASE_UNIT, Grid(0, DAY), now)[0]


@settings(max_examples=150, deadline=None)
@given(st.lists(trial, max_size=12), st.integers(0, 80))
def test_reliability_agrees_with_the_formula_in_decimals(trials: list, now: int) -> None:
    exact = [(day, success, Fraction(weight, LEASE_UNIT)) for day, success, weight in trials]
    assert bound(trials, now) == metering_bound(exact, now)


@given(st.lists(trial, max_size=12), st.integers(60, 80), st.integers(1, 60))
def test_silence_never_raises_reliability(trials: list, now: int, longer: int) -> None:
    before, after = bound(trials, now), bound(trials, now + longer)
    assert after <= before
    if not any(success for _, success, _ in trials):
        assert after == before


@quick
@given(readings)
def test_facts_alone_rebuild_the_state(given_readings: list) -> None:
    world, devices = history()
    seen = []
    original = world.spec.service.evolve

    def watch(state: Metering, recorded: object) -> Metering:
        seen.append(recorded)
        return original(state, recorded)

    object.__setattr__(world.spec.service, "evolve", watch)
    start = world.spec.state
    record(world, devices, given_readings)
    scored(world)
    state = start
    for recorded in seen:
        state = service().evolve(state, recorded)
    assert state == world.spec.state


def test_two_identities_earn_no_more_than_one() -> None:
    whole = World(backfill_days=1, backfill_nodes=["one"]).with_node("one", 2).open_backfill()
    split = World(backfill_days=1, backfill_nodes=["one", "two"]).with_node("one").with_node("two").open_backfill()
    earned = []
    for world in (whole, split):
        for name in ("a", "b"):
            lease = world.lease(name, ZERO_MS, ZERO_MS + HOUR)
            of = "one" if lease.node == node("one") else "two"
            world.record(of, *((lease.devices[0].device, lease.lease, ZERO_MS, ZERO_MS + 5 * MINUTE, 1_000),))
        world.close_backfill()
        earned.append(
            sum(int(s.micro_rgpu_hours) for f in world.close(0) if isinstance(f, EpochPaged) for s in f.nodes)
        )
    # Rounding half-even once per node may differ by one unit per identity.
    assert earned[1] <= earned[0] + 1


def test_an_hour_on_time_earns_one_gpu_hour_at_the_floor_of_both_factors() -> None:
    assert on_time == round(Fraction(500, 10_000) * 211_324)
