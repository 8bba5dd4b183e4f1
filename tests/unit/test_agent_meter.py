"""Readings from leases and time: on a grid, never over the border of an hour, each moment once."""

from __future__ import annotations

import itertools
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as some

from infra.agent.leases import HeldLease, lease_of
from infra.agent.meter import Meter, Standing
from infra.agent.slicing import last_end, slice_end, slices, widened
from infra.agent.spool import Spool, read_line
from tests.agent_given import DEVICE, HOUR, HOUR_MS, LEASE, START, lease_row

MINUTE = 60_000


@given(start=some.integers(0, 10**13), length=some.integers(1, 3 * HOUR_MS), seconds=some.integers(1, 300))
def test_slices_cover_exactly_are_short_and_never_cross_an_hour(start: int, length: int, seconds: int) -> None:
    cut = list(slices(start, start + length, seconds * 1_000))
    assert (cut[0][0], cut[-1][1]) == (start, start + length)
    assert all(one[1] == two[0] for one, two in itertools.pairwise(cut))
    assert all(0 < end - begin <= seconds * 1_000 for begin, end in cut)
    assert all(begin // HOUR_MS == (end - 1) // HOUR_MS for begin, end in cut)


def test_the_grid_starts_anew_with_every_hour() -> None:
    assert slice_end(START + 3_599_000, 7_000) == START + HOUR_MS
    assert slice_end(START + HOUR_MS, 7_000) == START + HOUR_MS + 7_000
    assert last_end(START + 13_000, 7_000) == START + 7_000


def test_many_leases_make_longer_slices_so_that_an_hour_fits_into_its_parts() -> None:
    assert widened(60_000, 8) == 60_000
    assert widened(60_000, 600) == 300_000
    assert 240 * HOUR_MS // widened(1_000, 240) <= 7_200


def meter(folder: Path, lease: HeldLease, since: int = START) -> Meter:
    return Meter(Spool(folder, "node/" + "a" * 32, 2**20), MINUTE, since, lambda now: now // HOUR_MS - 1, (lease,))


def spooled(made: Meter) -> list[tuple[int, int, int]]:
    lines = [line for hour in made.spool.hours() for line in made.spool.lines(hour)]
    return [read_line(line)[2:] for line in lines]


def held(**more: int) -> HeldLease:
    found = lease_of(lease_row(**more), "device/x")
    assert found
    return found


def test_only_slices_that_are_over_are_written_and_each_once(tmp_path: Path) -> None:
    made = meter(tmp_path, held())
    for second in range(0, 150, 10):
        made.write(START + second * 1_000)
    assert spooled(made) == [(START, START + MINUTE, 500), (START + MINUTE, START + 2 * MINUTE, 500)]


def test_a_lease_that_ends_is_metered_to_its_end_and_no_further(tmp_path: Path) -> None:
    made = meter(tmp_path, held(end_ms=START + 90_000))
    made.write(START + 10 * MINUTE)
    assert spooled(made)[-1] == (START + MINUTE, START + 90_000, 500)
    assert made.write(START + 20 * MINUTE) == 0


def test_a_cancelled_lease_ends_when_it_was_cancelled() -> None:
    assert held(cancelled_ms=START + 5).end_ms == START + 5


def test_nothing_is_said_of_the_time_before_the_agent_was_there(tmp_path: Path) -> None:
    made = meter(tmp_path, held(start_ms=START - 5 * MINUTE), since=START + 1_000)
    made.write(START + MINUTE)
    assert spooled(made) == [(START + 1_000, START + MINUTE, 500)]


def test_a_new_meter_goes_on_where_the_spool_ends(tmp_path: Path) -> None:
    made = meter(tmp_path, held())
    made.write(START + 90_000, flush=True)
    again = meter(tmp_path, held())
    again.recall(START + 100_000)
    assert again.until == {(DEVICE, LEASE): START + 90_000}
    again.write(START + 3 * MINUTE)
    assert [span[:2] for span in spooled(again)] == [
        (START, START + MINUTE),
        (START + MINUTE, START + 90_000),
        (START + 90_000, START + 2 * MINUTE),
        (START + 2 * MINUTE, START + 3 * MINUTE),
    ]


def test_an_hour_that_is_closed_takes_no_line(tmp_path: Path) -> None:
    made = meter(tmp_path, held(start_ms=START - 2 * HOUR_MS), since=0)
    made.write(START)
    assert made.spool.hours() == [HOUR - 1]


def test_a_lease_that_the_view_does_not_know_whole_is_left_out() -> None:
    assert lease_of(lease_row() | {"start_ms": None}, "device/x") is None


@pytest.mark.parametrize(("kind", "devices"), [("cpu", ()), ("gpu", ({"device": DEVICE, "model": "x"},))])
def test_a_lease_without_devices_is_of_the_processors(kind: str, devices: tuple[object, ...]) -> None:
    lease = lease_of(lease_row() | {"kind": kind, "devices": devices}, "device/cpu")
    assert lease
    assert lease.devices == (("device/cpu",) if kind == "cpu" else (DEVICE,))


def test_a_fault_is_in_every_slice_that_was_not_over_before_it_and_in_no_later_one(tmp_path: Path) -> None:
    made = meter(tmp_path, held())
    made.note([DEVICE], START + 90_000)
    made.write(START + 4 * MINUTE)
    assert [level for *_, level in spooled(made)] == [0, 0, 500, 500]


def test_a_lease_that_ends_within_a_slice_does_not_make_another_forget_the_fault(tmp_path: Path) -> None:
    short = msgspec.structs.replace(held(end_ms=START + 20_000), lease="2" * 32)
    made = meter(tmp_path, held())
    made.leases = (*made.leases, short)
    made.note([DEVICE], START + 10_000)
    made.write(START + 30_000)
    made.write(START + 2 * MINUTE)
    assert sorted(spooled(made)) == [
        (START, START + 20_000, 0),
        (START, START + MINUTE, 0),
        (START + MINUTE, START + 2 * MINUTE, 500),
    ]


def test_a_fault_noted_by_a_clock_that_ran_ahead_ends_with_it(tmp_path: Path) -> None:
    made = meter(tmp_path, held())
    made.note([DEVICE], START + 24 * HOUR_MS)
    made.note([], START)
    assert made.down == {DEVICE: START}
    made.note([], START + 26 * HOUR_MS)
    assert made.down == {}


def test_what_stands_is_told_by_kind_over_all_devices_of_the_leases_that_run(tmp_path: Path) -> None:
    two = msgspec.structs.replace(held(), lease="2" * 32, devices=("device/a", "device/b"))
    over = msgspec.structs.replace(held(end_ms=START), lease="3" * 32, kind="cpu")
    made = meter(tmp_path, held())
    made.leases = (*made.leases, two, over)
    made.note(["device/b"], START + 1)
    assert made.standing(START + 1) == {"gpu": Standing(2, 1_500, 1_000)}
