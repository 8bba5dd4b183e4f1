"""The catalog: old versions keep their meaning through upcasts, unknown types stop the reader."""

from __future__ import annotations

from typing import ClassVar

import msgspec
import pytest

from events.catalog import Catalog, Retired, UpgradeNeeded
from events.envelope import Draft, Fact, encode_data, open_record, seal_record
from events.facts import FACTS_BY_SERVICE, catalog


class LampLitOnce(Fact, frozen=True):
    """The old version: brightness in whole percent."""

    TYPE: ClassVar[str] = "lamps.lamp-lit.v1"
    lamp: str
    percent: int


class LampLit(Fact, frozen=True):
    """The current version: brightness in milli, and what it is for."""

    TYPE: ClassVar[str] = "lamps.lamp-lit.v2"
    lamp: str
    milli: int
    purpose: str


def lit(old: LampLitOnce) -> Fact:
    """Say in today's words what the old version said."""
    return LampLit(old.lamp, old.percent * 10, "unknown")


LAMPS = Catalog([LampLit], [Retired(LampLitOnce, lit)])


def recorded(fact: Fact) -> bytes:
    opened = open_record(
        Draft("id-1", "commons.example/x/lamps", fact.TYPE, "lamp/1", encode_data(fact), actor="clock")
    )
    return seal_record(opened, 3, "2026-11-20T12:00:00.000000Z", 9)


def test_a_record_of_a_retired_version_is_read_as_the_current_one() -> None:
    found = LAMPS.decode(recorded(LampLitOnce("lamp/1", 45)))
    assert found.fact == LampLit("lamp/1", 450, "unknown")
    assert (found.service, found.stream, found.version, found.position) == ("lamps", "lamp/1", 3, 9)
    assert (found.id, found.actor) == ("id-1", "clock")
    assert found.time_ms == 1_795_176_000_000


def test_a_record_of_the_current_version_is_read_as_it_is() -> None:
    fact = LampLit("lamp/1", 450, "reading")
    assert LAMPS.decode(recorded(fact)).fact == fact


def test_a_consumer_that_meets_an_unknown_type_stops() -> None:
    older = Catalog([LampLitOnce])
    with pytest.raises(UpgradeNeeded) as refused:
        older.decode(recorded(LampLit("lamp/1", 450, "reading")))
    assert refused.value.type_name == "lamps.lamp-lit.v2"


@pytest.mark.parametrize(
    "data",
    [b'{"lamp":"lamp/1","milli":1,"purpose":"x","more":1}', b'{"lamp":"lamp/1"}', b'{"lamp":1,"milli":1,"purpose":""}'],
    ids=["an unknown field", "a missing field", "another type"],
)
def test_data_that_does_not_fit_its_type_is_refused(data: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        LAMPS.decode_data(LampLit.TYPE, data)


def test_two_types_of_one_name_are_a_programmers_error() -> None:
    with pytest.raises(AssertionError):
        Catalog([LampLit], [Retired(LampLit, lit)])


@pytest.mark.parametrize("name", ["", "lamp-lit.v1", "lamps.lamp-lit", "lamps.lamp-lit.vx"])
def test_a_type_without_service_or_version_is_a_programmers_error(name: str) -> None:
    unnamed = type("Unnamed", (Fact,), {"TYPE": name, "__annotations__": {}}, frozen=True)
    with pytest.raises(AssertionError):
        Catalog([unnamed])


def test_every_type_belongs_to_the_service_its_name_begins_with() -> None:
    for service, facts in FACTS_BY_SERVICE.items():
        for fact in facts:
            assert fact.TYPE.partition(".")[0] == service


def test_recorded_times_are_read_right_when_they_alternate() -> None:
    known = catalog()
    one = LAMPS.decode(recorded(LampLit("a", 1, "x")))
    opened = open_record(Draft("id-2", "commons.example/x/lamps", LampLit.TYPE, "b", encode_data(LampLit("b", 2, "y"))))
    later = seal_record(opened, 1, "2026-11-20T12:00:00.000001Z", 10)
    times = [LAMPS.decode(raw).time_us for raw in (later, recorded(one.fact), later)]
    assert times == [one.time_us + 1, one.time_us, one.time_us + 1]
    assert known.upcasts == {}, "a retired type needs its own golden record and a test of its upcast"
