"""Metering of processors, storage and bandwidth for any evidence, as of GPUs: what cannot matter does not."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from events.metering import EpochPaged, NodeScore
from events.registry_terms import KINDS, DeviceKind
from services.metering.errors import LeaseRefused, NoReadingStands
from tests.kinds_world import DEVICES, NODE, WHOLE, Reading, consume, kinds_world, lease, prove, terms
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, World, lease_id

OTHERS: tuple[DeviceKind, ...] = ("cpu", "storage", "bandwidth")
LEASES = {"a": 3_000, "b": 5_000}
"""Two leases of each kind that just fit the processors together, and their shares."""

Given = tuple[DeviceKind, str, int, int, int]
given_reading = st.tuples(
    st.sampled_from(OTHERS),
    st.sampled_from(sorted(LEASES)),
    st.integers(0, 50),
    st.integers(1, 5),
    st.sampled_from((0, 100, 3_000, 4_000, 8_000)),
)
given_readings = st.lists(given_reading, min_size=1, max_size=30)
given_proofs = st.lists(st.tuples(st.sampled_from(sorted(LEASES)), st.integers(1, 59), st.booleans()), max_size=6)
quick = settings(max_examples=40, deadline=None)


def history() -> World:
    world = kinds_world()
    for kind in OTHERS:
        for name, share in LEASES.items():
            lease(world, kind, f"{kind} {name}", NOW_MS, NOW_MS + HOUR, share)
    return world.at(NOW_MS + HOUR)


def rows(readings: Sequence[Given]) -> list[Reading]:
    return [
        (
            DEVICES[kind],
            lease_id(f"{kind} {name}"),
            NOW_MS + first * MINUTE,
            NOW_MS + (first + minutes) * MINUTE,
            level,
        )
        for kind, name, first, minutes, level in readings
    ]


def seen(readings: Sequence[Given]) -> list[Reading]:
    """What the consumer saw of the bandwidth: all of it, at most half of the line."""
    half = [(kind, name, first, minutes, min(level, 4_000)) for kind, name, first, minutes, level in readings]
    return rows([one for one in half if one[0] == "bandwidth"])


def record(world: World, readings: Sequence[Given], number: int) -> None:
    if readings:
        world.record(NODE, *rows(readings), number=number)
    if consumed := seen(readings):
        consume(world, consumed, number)


def scored(world: World) -> dict[str, NodeScore]:
    world.at(NOW_MS + 2 * DAY)
    return {page.kind or "gpu": page.nodes[0] for page in world.close(100) if isinstance(page, EpochPaged)}


@quick
@given(given_readings, given_proofs, st.data())
def test_order_repetition_slicing_and_batching_cannot_matter(
    readings: list[Given], proofs: list[tuple[str, int, bool]], data: st.DataObject
) -> None:
    world = history()
    record(world, readings, 0)
    for name, minute, passed in proofs:
        prove(world, f"storage {name}", NOW_MS + minute * MINUTE, passed=passed)
    sliced = [
        (kind, name, first + at, 1, level) for kind, name, first, minutes, level in readings for at in range(minutes)
    ]
    again = data.draw(st.lists(st.sampled_from(readings), max_size=10))
    messy = data.draw(st.permutations([*sliced, *again]))
    cut = data.draw(st.integers(0, len(messy)))
    other = history()
    for index, (name, minute, passed) in enumerate(data.draw(st.permutations(proofs))):
        other.count = 1_000 + index
        prove(other, f"storage {name}", NOW_MS + minute * MINUTE, passed=passed)
    record(other, messy[:cut], 1)
    record(other, messy[cut:], 2)
    assert scored(world) == scored(other)


@quick
@given(st.lists(given_reading, max_size=30), st.lists(st.integers(1, 59), max_size=4), st.data())
def test_withholding_either_side_s_readings_or_a_proof_never_raises_pay(
    readings: list[Given], minutes: list[int], data: st.DataObject
) -> None:
    # Each minute of a lease is read once at most, within its share: then nothing withheld was in another's way.
    taken: set[tuple[str, str, int]] = set()
    kept: list[Given] = []
    for kind, name, first, count, level in readings:
        if not taken & {(kind, name, first + i) for i in range(count)}:
            taken |= {(kind, name, first + i) for i in range(count)}
            kept.append((kind, name, first, count, min(level, LEASES[name])))
    whole, less = history(), history()
    for world, least in ((whole, 1.0), (less, 0.0)):
        given_now = [one for one in kept if least or data.draw(st.booleans())]
        told = [one for one in kept if least or data.draw(st.booleans())]
        if given_now:
            world.record(NODE, *rows(given_now))
        if consumed := seen(told):
            consume(world, consumed)
        for minute in minutes:
            if least or data.draw(st.booleans()):
                prove(world, "storage a", NOW_MS + minute * MINUTE)
    before, after = scored(whole), scored(less)
    assert sorted(before) == sorted(after) == sorted(OTHERS)
    for kind in OTHERS:
        assert int(after[kind].micro_rgpu_hours) <= int(before[kind].micro_rgpu_hours)


@quick
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 90), st.integers(1, 60), st.integers(1, 10)), max_size=25)
)
def test_capacity_of_no_kind_is_ever_promised_twice(asked: list[tuple[DeviceKind, int, int, int]]) -> None:
    world = kinds_world()
    promised: list[tuple[DeviceKind, int, int, int]] = []
    for number, (kind, first, minutes, tenths) in enumerate(asked):
        share = WHOLE[kind] * tenths // 10
        start = NOW_MS + first * MINUTE
        one = terms(kind, number, start, start + minutes * MINUTE, share)
        room = max(
            sum(s for k, f, t, s in promised if k == kind and f <= at < t) for at in range(first, first + minutes)
        )
        try:
            world.leases(one)
        except LeaseRefused:
            assert room + share > WHOLE[kind]
        else:
            assert room + share <= WHOLE[kind]
            promised.append((kind, first, first + minutes, share))


@quick
@given(st.lists(given_reading, min_size=1, max_size=10))
def test_bandwidth_of_which_the_consumer_says_nothing_earns_nothing(readings: list[Given]) -> None:
    world = history()
    try:
        world.record(NODE, *rows([("bandwidth", *one[1:]) for one in readings]))
    except NoReadingStands:
        return
    assert scored(world)["bandwidth"].micro_rgpu_hours == "0"
