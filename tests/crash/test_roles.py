"""Each role in its own process on Kafka and PostgreSQL, killed at named points under load: nothing lost or doubled.

A run is a seed: which point, how many passages it lets go by, and what else goes away meanwhile. The long form goes
through all points again and again; COMMONS_TEST_CRASH_SEED lets it begin at a seed that failed, COMMONS_TEST_CRASH_RUNS
sets how many runs there are.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash_world import CrashWorld, Ground, crash_world, ground
from tests.kill_points import POINTS, Point, resolve
from tests.seeded_load import goes_on

FIRST_SEED = int(os.environ.get("COMMONS_TEST_CRASH_SEED", "1"))
RUNS = int(os.environ.get("COMMONS_TEST_CRASH_RUNS", "210"))
RUNS_PER_WORLD = 15
"""Then a new community is founded, with other partitions, so that looking at everything stays quick."""

PARTITIONS = (6, 2, 3)
"""With one there is no idle partition, so no watermark to die at; tests of views have one."""
OUTAGES = ("", "", "", "", "cut", "silent", "broker", "database")
SHORT = (
    "http: committed, nobody is answered",
    "view: between checkpoint and effect",
    "relay: sent, not acknowledged",
)


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with ground(tmp_path_factory.mktemp("roles")) as made:
        yield made


def run(world: CrashWorld, seed: int, point: Point, outage: str) -> None:
    """One run, and everything looked at after it."""
    began, dice = time.monotonic(), random.Random(f"run {seed}")
    told = f"seed {seed}: {point.name}{f'; then {outage}' if outage else ''}"
    try:
        goes_on(world.writers)
        world.strike(point, dice)
        world.outage(outage, dice)
        world.check()
    except BaseException as error:
        error.add_note(f"{told} (COMMONS_TEST_CRASH_SEED={seed})")
        raise
    print(f"{told}: {world.ledger.acknowledged} acknowledged, {time.monotonic() - began:.1f} s", flush=True)  # noqa: T201


def plan(seed: int) -> tuple[Point, str]:
    """What happens in a run: all points come before one comes again, in an order of the round's own."""
    turn, place = divmod(seed, len(POINTS))
    points = random.Random(f"round {turn}").sample(POINTS, len(POINTS))
    return points[place], random.Random(f"outage {seed}").choice(OUTAGES)


def test_every_point_names_a_function_and_no_name_comes_twice() -> None:
    for point in POINTS:
        owner, name = resolve(point.target)
        assert callable(getattr(owner, name)), point
    assert len({point.name for point in POINTS}) == len(POINTS) >= 20


def test_nothing_is_lost_and_nothing_doubled_where_each_process_is_killed_at_a_named_point(
    standing: Ground, tmp_path: Path
) -> None:
    points = {point.name: point for point in POINTS}
    with crash_world(standing, tmp_path, "short") as world:
        for number, (name, outage) in enumerate(zip(SHORT, ("", "cut", ""), strict=True)):
            dice = random.Random(f"short {number}")
            goes_on(world.writers)
            world.strike(points[name], dice)
            world.outage(outage, dice)
        world.check()


@pytest.mark.crash
@pytest.mark.parametrize("first", range(FIRST_SEED, FIRST_SEED + RUNS, RUNS_PER_WORLD))
def test_nothing_is_lost_and_nothing_doubled_in_long_runs(standing: Ground, tmp_path: Path, first: int) -> None:
    partitions = PARTITIONS[first // RUNS_PER_WORLD % len(PARTITIONS)]
    with crash_world(standing, tmp_path, f"world-{first}", partitions) as world:
        for seed in range(first, min(first + RUNS_PER_WORLD, FIRST_SEED + RUNS)):
            run(world, seed, *plan(seed))


@pytest.mark.crash
def test_three_brokers_of_which_one_is_killed_lose_nothing_and_service_goes_on(tmp_path: Path) -> None:
    with ground(tmp_path / "ground", brokers=3) as standing, crash_world(standing, tmp_path, "three") as world:
        for number in standing.brokers.numbers:
            goes_on(world.writers)
            standing.brokers.kill(number)
            world.check()  # with two of three: facts are relayed, followed and effective
            standing.brokers.launch(number)
            standing.brokers.wait_ready(3)
            world.check()
