"""Which differences between two clocks are drift, and what a step looks like."""

from __future__ import annotations

import pytest

from infra.agent.drift import Drift, offset_ms


@pytest.mark.parametrize(
    ("sent", "received", "date", "expected"),
    [
        (10_000, 10_040, 10_000, 0),
        (10_990, 11_010, 10_000, 0),  # the server's second is nearly over
        (11_500, 11_600, 10_000, 0),  # ... and its header a second old
        (12_500, 12_600, 10_000, -501),
        (10_000, 10_100, 16_000, 5_900),
        (10_000, 18_000, 16_000, 0),  # a slow answer says little
    ],
)
def test_only_what_lies_outside_any_doubt_is_drift(sent: int, received: int, date: int, expected: int) -> None:
    assert offset_ms(sent, received, date) == expected


def test_five_seconds_are_the_limit_either_way() -> None:
    drift = Drift()
    assert drift.trusted
    drift.observe(0, 0, 5_000, 0)
    assert drift.trusted
    drift.observe(0, 0, 5_001, 0)
    assert not drift.trusted
    assert "5.0 s behind" in str(drift.warning)
    drift.observe(10_000, 10_000, 0, 0)
    assert not drift.trusted
    assert "8.0 s ahead of" in str(drift.warning)
    drift.observe(10_000, 10_000, 9_500, 0)
    assert drift.trusted
    assert drift.warning is None


def test_a_step_of_the_clock_stops_metering_until_the_server_has_answered() -> None:
    drift = Drift()
    drift.look(1_000_000, 0)
    drift.look(1_010_000, 10_000)
    assert drift.trusted
    drift.look(1_026_000, 20_000)
    assert not drift.trusted
    drift.look(1_036_000, 30_000)
    assert not drift.trusted
    drift.observe(1_046_000, 1_046_000, 1_046_000, 40_000)
    assert drift.trusted
    drift.look(1_056_000, 50_000)
    assert drift.trusted


def test_a_slow_adjustment_is_no_step() -> None:
    drift = Drift()
    for second in range(0, 100_000, 1_000):
        drift.look(second * 1_001 // 1_000 + second // 10, second)
    assert drift.trusted
