"""What a genesis document may say about hours, carbon and consumer readings."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from events.genesis import CarbonFactor
from services.registry.genesis import check
from tests.registry_world import community

FACTOR = CarbonFactor(zone="DE", id="uba-2024", year=2024, method="average", grams_per_kwh=363, low=340, high=430)


def problems(close_after_seconds: int = 172_800, **changes: Any) -> str:
    founded = community()
    metering = msgspec.structs.replace(founded.metering, **changes)
    epochs = msgspec.structs.replace(founded.epochs, close_after_seconds=close_after_seconds)
    return "\n".join(check(msgspec.structs.replace(founded, metering=metering, epochs=epochs)))


def test_a_factor_per_zone_is_sound() -> None:
    other = msgspec.structs.replace(FACTOR, zone="FR")
    assert problems(carbon_factors=(FACTOR, other)) == ""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"low": 364}, "lies in its range"),
        ({"high": 362}, "lies in its range"),
        ({"low": -1}, "lies in its range"),
        ({"high": 10_001}, "lies in its range"),
        ({"year": 1989}, "year"),
        ({"id": ""}, "id"),
        ({"zone": ""}, "zone"),
        ({"method": "\n"}, "method"),
    ],
)
def test_a_factor_without_range_year_or_source_is_refused(changes: dict[str, Any], says: str) -> None:
    found = problems(carbon_factors=(msgspec.structs.replace(FACTOR, **changes),))
    assert "metering.carbon_factors[0]" in found
    assert says in found


def test_two_factors_for_one_zone_are_refused() -> None:
    assert "DE stands twice" in problems(carbon_factors=(FACTOR, FACTOR))


@pytest.mark.parametrize("hours", [-1, 721])
def test_a_cap_on_maintenance_lies_within_thirty_days(hours: int) -> None:
    assert "maintenance_hours_per_30_days" in problems(maintenance_hours_per_30_days=hours)


def test_mandatory_consumer_readings_ask_for_a_day_before_an_epoch_closes() -> None:
    since = "2026-01-01T00:00:00Z"
    assert problems(86_400, consumer_readings_from=since) == ""
    assert "epochs.close_after_seconds" in problems(86_399, consumer_readings_from=since)
