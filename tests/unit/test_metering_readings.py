"""Signed batches: what counts, what is rejected and with which code, what is late, what is in conflict."""

from __future__ import annotations

import base64

import msgspec
import pytest

from events.registry import NodeRetired
from services.kernel.decider import Emit
from services.kernel.errors import MalformedRequest, TooLarge
from services.metering.batches import batch_schema, read_batch
from services.metering.commands import RecordReadings
from services.metering.errors import NoReadingStands, NotThisNode, UnknownNode
from services.metering.state import Metering
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, World, batch, device, lease_id, member, node, signed

NODE = "one"
DEVICE = device(NODE)
LEASE = lease_id("a")
START = NOW_MS

Raw = tuple[str, str, int, int, int]


@pytest.fixture
def world() -> World:
    """A T4 leased whole for two hours from the founding on; it is ten minutes later."""
    made = World().with_node(NODE)
    made.lease("a", START, START + 2 * HOUR)
    return made.at(START + 10 * MINUTE)


def reading(start: int = START, length: int = 5 * MINUTE, level: int = 1_000, on: str = DEVICE, of: str = LEASE) -> Raw:
    return (on, of, start, start + length, level)


def recorded(world: World) -> dict[tuple[str, str], bytes]:
    state: Metering = world.spec.state
    return {key: raw for page in state.usage.values() for key, raw in page.items()}


def only_bad(world: World, bad: tuple[str, str, int, int, int]) -> dict[str, tuple[int, ...]]:
    """Return what is rejected of a batch whose second reading is bad; asserts that the first one counts."""
    before = recorded(world)
    fact = world.record(NODE, reading(), bad)
    assert recorded(world) != before
    assert fact.late == ()
    return fact.rejected


def test_a_batch_is_one_fact_that_holds_its_jws(world: World) -> None:
    jws = batch(NODE, [reading(), reading(START + 5 * MINUTE)], 7)
    (emit,) = world.spec.decide(RecordReadings(jws), node(NODE))
    assert (emit.stream, emit.fact.jws, emit.fact.number, emit.fact.readings) == (node(NODE), jws, 7, 2)
    assert emit.fact.batch == read_batch(jws).batch
    assert emit.fact.rejected is None


def test_a_reading_of_301_seconds_is_rejected(world: World) -> None:
    assert only_bad(world, reading(START, 301_000)) == {"too-long": (1,)}


def test_a_reading_of_36_days_ago_is_rejected() -> None:
    long_ago = START + 36 * DAY
    world = World().with_node(NODE)
    world.lease("a", START, START + HOUR)
    world.at(long_ago - HOUR).lease("b", long_ago - HOUR, long_ago + HOUR)
    world.at(long_ago)
    fact = world.record(NODE, reading(), reading(long_ago - 5 * MINUTE, of=lease_id("b")))
    assert fact.rejected == {"too-old": (0,)}


def test_a_reading_of_tomorrow_is_rejected(world: World) -> None:
    world.at(START + HOUR).lease("b", START + 2 * HOUR, START + 25 * HOUR)
    ahead = reading(START + 24 * HOUR, of=lease_id("b"))
    assert world.record(NODE, reading(START + 50 * MINUTE), ahead).rejected == {"in-the-future": (1,)}


def test_a_reading_may_be_five_minutes_ahead(world: World) -> None:
    assert world.record(NODE, reading(START + 10 * MINUTE)).rejected is None
    with pytest.raises(NoReadingStands):
        world.record(NODE, reading(START + 10 * MINUTE + 1))


def test_a_level_of_1001_is_rejected(world: World) -> None:
    assert only_bad(world, reading(level=1_001)) == {"level-out-of-range": (1,)}


def test_a_negative_level_is_rejected(world: World) -> None:
    assert only_bad(world, reading(level=-1)) == {"level-out-of-range": (1,)}


def test_an_empty_interval_is_rejected(world: World) -> None:
    assert only_bad(world, reading(length=0)) == {"empty-interval": (1,)}


def test_an_unknown_device_is_rejected(world: World) -> None:
    assert only_bad(world, reading(on=device("elsewhere"))) == {"unknown-device": (1,)}


def test_an_unknown_lease_is_rejected(world: World) -> None:
    assert only_bad(world, reading(of=lease_id("none"))) == {"unknown-lease": (1,)}


def test_a_number_outside_the_tables_is_rejected(world: World) -> None:
    good = (0, 0, START, START + MINUTE, 1_000)
    payload = {
        "node": node(NODE),
        "number": 0,
        "devices": [DEVICE],
        "leases": [LEASE],
        "readings": [good, (1, *good[1:]), (0, -1, *good[2:])],
    }
    fact = world.record_jws(NODE, signed(msgspec.json.encode(payload), NODE))
    assert fact.rejected == {"unknown-device": (1,), "unknown-lease": (2,)}


def test_a_device_that_the_lease_does_not_hold_is_rejected() -> None:
    world = World().with_node(NODE, devices=2)
    held = world.lease("a", START, START + HOUR).devices[0].device
    other = next(name for name in (device(NODE, 0), device(NODE, 1)) if name != held)
    world.at(START + 10 * MINUTE)
    assert world.record(NODE, reading(on=held), reading(on=other)).rejected == {"device-not-leased": (1,)}


def test_a_lease_of_another_node_is_rejected(world: World) -> None:
    world.with_node("two").lease("b", START + 10 * MINUTE, START + HOUR)
    assert only_bad(world, reading(of=lease_id("b"))) == {"device-not-leased": (1,)}


def test_a_reading_outside_its_lease_is_rejected(world: World) -> None:
    assert only_bad(world, reading(START - MINUTE)) == {"outside-lease": (1,)}


def test_a_time_beyond_64_bits_is_rejected_as_any_other(world: World) -> None:
    assert only_bad(world, reading(10**30)) == {"outside-lease": (1,)}


def test_a_level_beyond_64_bits_is_rejected_as_any_other(world: World) -> None:
    assert only_bad(world, reading(level=10**30)) == {"level-out-of-range": (1,)}


def test_a_batch_of_which_nothing_stands_is_refused_and_records_nothing(world: World) -> None:
    before = world.spec.state
    with pytest.raises(NoReadingStands) as refused:
        world.record(NODE, reading(level=1_001), reading(length=301_000))
    assert refused.value.fields["rejected"] == {"level-out-of-range": (0,), "too-long": (1,)}
    assert world.spec.state is before


def test_a_batch_of_another_node_is_refused(world: World) -> None:
    world.with_node("two")
    with pytest.raises(NotThisNode):
        world.spec.when(RecordReadings(batch(NODE, [reading()])), node("two"))


def test_a_batch_of_an_unknown_node_is_refused(world: World) -> None:
    with pytest.raises(UnknownNode):
        world.spec.when(RecordReadings(batch("nobody", [reading()])), node("nobody"))


def test_a_batch_over_40_kib_is_refused(world: World) -> None:
    jws = batch(NODE, [reading(START + second, 1_000) for second in range(1_300)])
    assert len(base64.urlsafe_b64decode(jws.split(".")[1] + "==")) > 40 * 1_024
    with pytest.raises(TooLarge):
        world.record_jws(NODE, jws)


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (b'"number":0', b'"number":0,"number":1'),
        (b'"number":0', b'"number":0,"num\\u0062er":1'),
        (b'"number":0', b'"number":0,"extra":1'),
        (b'"number":0', b'"number":-1'),
        (b'"number":0', b'"number":0.0'),
        (b'"number":0', b'"number":"0"'),
        (b'"number":0', b'"number":0,"side":"consumer"'),
        (b'"number":0', b'"number":0,"spool":null'),
        (b'"node"', b'"\x00ode"'),
        (b"1000]", b"1000.0]"),
        (b"1000]", b"1000,1]"),
        (b"1000]]", b"1000]"),
    ],
)
def test_a_payload_of_another_form_is_refused(where: bytes, what: bytes) -> None:
    text = batch(NODE, [reading()]).split(".")[1]
    payload = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).replace(where, what)
    with pytest.raises(MalformedRequest):
        read_batch(signed(payload, NODE))


def test_white_space_between_tokens_is_allowed() -> None:
    text = batch(NODE, [reading()]).split(".")[1]
    payload = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    spaced = msgspec.json.format(payload, indent=2)
    assert read_batch(signed(spaced, NODE)).runs == read_batch(signed(payload, NODE)).runs


def test_an_hour_after_its_end_a_reading_is_late_and_counts_nothing(world: World) -> None:
    world.at(START + 70 * MINUTE)
    fact = world.record(NODE, reading(), reading(START + 5 * MINUTE), reading(START + 10 * MINUTE))
    # The second one ended exactly an hour ago: it is in time.
    assert fact.late == (0,)
    segments = [(START + 5 * MINUTE, START + 15 * MINUTE)]
    assert recorded(world) == recorded(_with(segments))


def _with(segments: list[tuple[int, int]]) -> World:
    world = World().with_node(NODE)
    world.lease("a", START, START + 2 * HOUR)
    world.at(START + 15 * MINUTE)
    for start, end in segments:
        for at in range(start, end, MINUTE):
            world.record(NODE, reading(at, MINUTE))
    return world


def test_the_lowest_level_stands_and_the_disagreement_is_listed(world: World) -> None:
    world.record(NODE, reading(level=800))
    fact = world.record(NODE, reading(START + 5 * MINUTE, level=900), reading(START, MINUTE, 500), reading(level=800))
    assert fact.conflicts == (1,)
    higher = world.record(NODE, reading(START + MINUTE, MINUTE, 900))
    assert higher.conflicts == (0,)
    other = World().with_node(NODE)
    other.lease("a", START, START + 2 * HOUR)
    other.at(START + 10 * MINUTE)
    other.record(NODE, reading(START + MINUTE, 4 * MINUTE, 800), reading(START, MINUTE, 500))
    other.record(NODE, reading(START + 5 * MINUTE, level=900))
    assert recorded(world) == recorded(other)


def test_readings_of_one_batch_that_disagree_are_no_conflict_with_what_was_recorded_before(world: World) -> None:
    assert world.record(NODE, reading(level=800), reading(level=700)).conflicts == ()


def test_the_same_interval_again_adds_nothing(world: World) -> None:
    world.record(NODE, reading())
    before = recorded(world)
    fact = world.record(NODE, reading(), reading(START + MINUTE, MINUTE), number=1)
    assert fact.conflicts == ()
    assert recorded(world) == before


def test_a_node_that_left_for_good_records_no_more(world: World) -> None:
    world.spec.knowing(Emit(node(NODE), NodeRetired(node(NODE), "jws")))
    with pytest.raises(UnknownNode):
        world.record(NODE, reading())


def test_the_schema_of_a_batch_is_published() -> None:
    schema = batch_schema()["$defs"]["BatchPayload"]
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"node", "number", "devices", "leases", "readings"}


def test_a_member_never_signs_for_a_node(world: World) -> None:
    with pytest.raises(NotThisNode):
        world.spec.when(RecordReadings(batch(NODE, [reading()])), member("provider"))
