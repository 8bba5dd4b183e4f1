"""The consumer's side: who signs it, and what counts where both sides have to agree."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.genesis import MeteringRules
from events.metering import ConsumerReadingsRecorded, ConsumerReadingsWithheld, EpochPaged
from services.kernel.errors import AuthenticationFailed, MalformedRequest, TooLarge
from services.kernel.routes import Caller
from services.kernel.snapshot import freeze, thaw
from services.metering import steps
from services.metering.api import read_consumer_element
from services.metering.commands import RecordConsumerReadings
from services.metering.consumer import read_consumer_batch
from services.metering.errors import NoReadingStands, NotProjectOwner, UnknownProject
from services.metering.state import Metering
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, World, device, key_of, lease_id, member, node, signed

NODE = "one"
Reading = tuple[str, str, int, int, int]


def reading(slot: int, level: int = 1_000) -> Reading:
    start = NOW_MS + slot * 5 * MINUTE
    return (device(NODE), lease_id("a"), start, start + 5 * MINUTE, level)


HOUR_OF_READINGS = [reading(slot) for slot in range(12)]


def consumer_batch(
    readings: Sequence[Reading], number: int = 0, project: str = "project", signer: str = "consumer"
) -> str:
    devices, leases = sorted({one[0] for one in readings}), sorted({one[1] for one in readings})
    payload = {
        "project": project,
        "number": number,
        "devices": devices,
        "leases": leases,
        "readings": [(devices.index(one[0]), leases.index(one[1]), *one[2:]) for one in readings],
        "side": "consumer",
    }
    return signed(msgspec.json.encode(payload), signer, real=True)


def founded(since: str | None = "2025-01-01T00:00:00Z") -> World:
    world = World(close_after_seconds=86_400, rules=MeteringRules(consumer_readings_from=since)).with_node(NODE)
    world.lease("a", NOW_MS, NOW_MS + 2 * HOUR)
    world.at(NOW_MS + HOUR)
    return world


@pytest.fixture
def world() -> World:
    return founded()


def consume(world: World, *readings: Reading, number: int = 0) -> ConsumerReadingsRecorded:
    command = RecordConsumerReadings(consumer_batch(readings, number))
    fact = world.spec.when(command, member("consumer"))[0]
    assert isinstance(fact, ConsumerReadingsRecorded)
    return fact


def provide(world: World, *readings: Reading) -> None:
    world.record(NODE, *readings)


def allocated(world: World) -> int:
    """What the first day counts, in device-minutes."""
    world.at(NOW_MS + 2 * DAY)
    pages = [fact for fact in world.close(world.spec.state.next_live) if isinstance(fact, EpochPaged)]
    found, rest = divmod(int(pages[0].nodes[0].allocated_milli_ms), MINUTE)
    assert rest == 0
    return found // 1_000


def test_the_lower_side_counts(world: World) -> None:
    provide(world, *HOUR_OF_READINGS)
    consume(world, *(reading(slot, 400) for slot in range(6)), *(reading(slot) for slot in range(6, 12)))
    assert allocated(world) == 30 * 400 // 1_000 + 30


def test_what_only_the_consumer_read_counts_nothing(world: World) -> None:
    provide(world, reading(0))
    consume(world, *HOUR_OF_READINGS)
    assert allocated(world) == 5


def test_what_the_consumer_withholds_counts_nothing_without_a_challenge(world: World) -> None:
    provide(world, *HOUR_OF_READINGS)
    consume(world, reading(0), reading(1))
    assert allocated(world) == 10


@pytest.mark.parametrize(("throughput", "minutes"), [("5600", 60), ("100", 10), (None, 10)])
def test_withheld_it_is_the_provider_s_level_when_a_challenge_passed_inside_the_lease(
    world: World, throughput: str | None, minutes: int
) -> None:
    provide(world, *HOUR_OF_READINGS)
    consume(world, reading(0), reading(1))
    world.results(NODE, 0, "T4", [throughput], NOW_MS + HOUR)
    assert allocated(world) == minutes


def test_a_challenge_before_the_lease_proves_nothing_about_it(world: World) -> None:
    world.at(NOW_MS + 30 * MINUTE)
    world.results(NODE, 0, "T4", ["5600"], NOW_MS - 1)
    world.at(NOW_MS + HOUR)
    provide(world, *HOUR_OF_READINGS)
    assert allocated(world) == 0


@pytest.mark.parametrize("since", [None, "2025-04-11T00:00:00.001Z"])
def test_before_the_governed_date_the_provider_s_readings_are_enough(since: str | None) -> None:
    world = founded(since)
    provide(world, *HOUR_OF_READINGS)
    assert allocated(world) == 60


def test_consumer_readings_later_than_a_day_count_nothing(world: World) -> None:
    provide(world, *HOUR_OF_READINGS)
    world.at(NOW_MS + DAY + 30 * MINUTE)
    fact = consume(world, *HOUR_OF_READINGS)
    assert fact.rejected == {"too-old": (0, 1, 2, 3, 4)}
    assert allocated(world) == 35


def test_each_bad_reading_is_named_and_hides_no_other(world: World) -> None:
    bad = [
        (device("other"), lease_id("a"), *reading(0)[2:]),
        (device(NODE), lease_id("b"), *reading(0)[2:]),
        reading(-1),
        reading(14),
        reading(0, 1_001),
    ]
    fact = consume(world, *bad, reading(1))
    assert fact.rejected == {
        "device-not-leased": (0,),
        "in-the-future": (3,),
        "level-out-of-range": (4,),
        "outside-lease": (2,),
        "unknown-lease": (1,),
    }
    with pytest.raises(NoReadingStands):
        consume(world, *bad)


def test_only_the_project_s_owner_speaks_for_it(world: World) -> None:
    with pytest.raises(NotProjectOwner):
        world.spec.when(RecordConsumerReadings(consumer_batch(HOUR_OF_READINGS)), member("provider"))
    with pytest.raises(UnknownProject):
        world.spec.when(RecordConsumerReadings(consumer_batch(HOUR_OF_READINGS, 0, "other")), member("consumer"))


def test_the_edge_takes_a_batch_of_the_caller_s_own_key_only(world: World) -> None:
    caller = Caller(member("consumer"), key_of("consumer").kid, world.spec.directory)
    jws = consumer_batch(HOUR_OF_READINGS)
    assert read_consumer_element(jws, caller).command == RecordConsumerReadings(jws)
    with pytest.raises(AuthenticationFailed):
        read_consumer_element(consumer_batch(HOUR_OF_READINGS, signer="provider"), caller)
    with pytest.raises(AuthenticationFailed):
        read_consumer_element(jws[:-2] + ("AA" if jws[-2:] != "AA" else "BA"), caller)
    with pytest.raises(TooLarge):
        read_consumer_element("x" * 60_000, caller)


@pytest.mark.parametrize(
    "payload",
    [
        b"{}",
        b'{"project":"p","number":0,"devices":[],"leases":[],"readings":[],"side":"consumer"}',
        b'{"project":"p","number":0,"devices":[],"leases":[],"readings":[[0,0,1,2,3]],"side":"provider"}',
        b'{"project":"p","project":"q","number":0,"devices":[],"leases":[],"readings":[[0,0,1,2,3]],"side":"consumer"}',
    ],
)
def test_a_consumer_payload_of_another_form_is_refused(payload: bytes) -> None:
    with pytest.raises(MalformedRequest):
        read_consumer_batch(signed(payload, "consumer"))


def test_the_state_with_both_sides_survives_a_snapshot_and_shrinks(world: World) -> None:
    provide(world, *HOUR_OF_READINGS)
    consume(world, *HOUR_OF_READINGS)
    state = world.spec.state
    assert state.consumed
    assert thaw(freeze(state), Metering) == state
    allocated(world)
    world.at(NOW_MS + 3 * DAY)
    world.close(world.spec.state.next_live)
    assert not world.spec.state.consumed


levels = st.lists(st.none() | st.integers(0, 1_000), min_size=8, max_size=8)


def laid(of: Sequence[int | None]) -> steps.Points[int]:
    points: steps.Points[int] = array("q")
    for at, level in enumerate(of):
        if level is not None:
            steps.lay(points, at, at + 1, level)
    return points


@given(levels, levels, st.booleans())
def test_agreement_is_the_lower_of_both_at_every_instant(
    provider: list[int | None],
    consumer: list[int | None],
    alone: bool,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    expected: list[int | None] = []
    for mine, other in zip(provider, consumer, strict=True):
        both = None if mine is None or other is None else min(mine, other)
        expected.append(mine if alone and other is None else both)
    assert steps.agreed(laid(provider), laid(consumer), alone=alone) == laid(expected)


@given(levels, levels, st.integers(0, 7))
def test_a_provider_that_withholds_a_reading_never_gains(
    provider: list[int | None], consumer: list[int | None], at: int
) -> None:
    fewer = [None if index == at else level for index, level in enumerate(provider)]
    for alone in (False, True):
        found = [
            steps.amount(steps.agreed(laid(side), laid(consumer), alone=alone), 1_000, 0, 8)
            for side in (fewer, provider)
        ]
        assert found[0] <= found[1]


def test_what_withheld_readings_cost_is_told_by_lease_and_device(world: World) -> None:
    world.record(NODE, *HOUR_OF_READINGS)
    consume(world, *(reading(slot, 400) for slot in range(4)))
    world.at(NOW_MS + 2 * DAY)
    facts = [fact for fact in world.close(100) if isinstance(fact, ConsumerReadingsWithheld)]
    # The consumer's lower level is no withholding; its silence of 40 minutes is.
    assert facts == [ConsumerReadingsWithheld(100, node(NODE), device(NODE), lease_id("a"), str(1_000 * 40 * MINUTE))]


def test_where_a_challenge_passed_in_the_lease_nothing_is_lost(world: World) -> None:
    world.record(NODE, *HOUR_OF_READINGS)
    world.results(NODE, 0, "T4", ["5600"], NOW_MS + HOUR)
    world.at(NOW_MS + 2 * DAY)
    assert not [fact for fact in world.close(100) if isinstance(fact, ConsumerReadingsWithheld)]
