"""The real trace through the public API: shuffled, with duplicates, killed in the middle, and still exact.

The trace and its answer key are not ours (METERING "Answer key"); without the data these tests have nothing to say,
and say so.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.instance import Instance

DATA = Path(__file__).parents[3] / "shared" / "data"
NODES = DATA / "nodes" / "openb_node_list_all_node.csv"
PODS = DATA / "jobs" / "openb_pod_list_default.csv"

LEASES = 7_255
MILLI_GPU_SECONDS = 185_294_426_970
READINGS = {300: 718_775, 60: 3_579_835}
MEMORY_MIB = 500

needs_data = pytest.mark.skipif(not PODS.exists(), reason="the real trace is not here; CI has it")


def arguments(*more: str) -> list[str]:
    return ["import", "openb", "--nodes", str(NODES), "--pods", str(PODS), "--json", *more]


def check(report: dict[str, Any]) -> None:
    assert report["nodes"] == 1_523
    assert report["devices"] == 6_212
    assert report["pods"] == report["leases"] == LEASES
    assert report["verified_milli_gpu_seconds"] == MILLI_GPU_SECONDS
    assert report["epochs"] == 150
    assert report["rewards_paid"] + report["reward_reserve"] + report["reward_kept"] == report["reward_pool"]


def check_epochs(instance: Instance) -> None:
    """Every epoch accounts for its pool exactly, and pays where there was usage; equal views, a sound book."""
    epochs = instance_epochs(instance)
    assert [epoch["epoch"] for epoch in epochs] == list(range(150))
    for epoch in epochs:
        pool, paid = int(epoch["pool"]), int(epoch["paid"])
        assert paid + int(epoch["late_reserve"]) + int(epoch["kept"]) == pool
        if int(epoch["totals"]["gpu"]["allocated_milli_ms"]):
            assert paid > 0
    assert all(view["equal"] for view in instance.json("rebuild")["views"])
    assert instance.json("doctor")["sound"]


def instance_epochs(instance: Instance) -> list[dict[str, Any]]:
    import httpx  # noqa: PLC0415 - only this check asks the edge itself

    found: list[dict[str, Any]] = []
    params: dict[str, str | int] = {"limit": 100}
    while True:
        page = httpx.get(f"{instance.url}/v1/views/epochs", params=params, timeout=30, trust_env=False).json()
        found += [epoch for epoch in page["items"] if epoch["backfill"] == "openb"]
        if page["next"] is None:
            return found
        params["cursor"] = page["next"]


def kill_once_under_way(instance: Instance, command: list[str], after_bytes: int) -> None:
    """Start the import, and kill -9 it and the whole instance once metering has recorded so much."""
    environ = instance.environ
    with subprocess.Popen(
        [sys.executable, "-m", "infra.cli", *command],
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as importing:
        data = instance.home / "postgres" / "data" / "base"
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            assert importing.poll() is None, "the import ended before it could be killed"
            if sum(path.stat().st_size for path in data.rglob("*") if path.exists()) > after_bytes:
                break
            time.sleep(0.05)
        importing.send_signal(signal.SIGKILL)
        importing.wait()
    instance.kill_everything()


@needs_data
def test_the_real_trace_is_exact_shuffled_duplicated_and_killed_in_the_middle(tmp_path: Path) -> None:
    instance = Instance(tmp_path / "home")
    instance.start()
    try:
        command = arguments("--shuffle", "--duplicates", "0.1", "--seed", "3", "--url", instance.url)
        kill_once_under_way(instance, command, after_bytes=60_000_000)
        instance.start()
        done = instance.commons(*command)
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout.splitlines()[-1])
        check(report)
        assert report["readings_sent"] > READINGS[300]
        assert report["batches_duplicate"] > 0
        check_epochs(instance)
        memory = sum(p.memory_info().rss for p in instance.family() if "postgres" not in p.name())
        assert memory < MEMORY_MIB * 2**20, f"{memory / 2**20:.0f} MiB"
    finally:
        if instance.process is not None:
            instance.stop()


@needs_data
@pytest.mark.soak
def test_slicing_and_order_change_nothing_that_is_paid(tmp_path: Path) -> None:
    """Four homes with one operator's key, so with the same ids and placements; four ways to send the same usage."""
    rewards = set()
    disorder = ("--shuffle", "--duplicates", "0.1", "--seed", "11")
    for number, (slice_seconds, more) in enumerate(product((300, 60), ((), disorder))):
        instance = Instance(tmp_path / f"home-{number}")
        instance.give_operator_key(bytes(range(32)))
        instance.start()
        try:
            command = arguments("--slice-seconds", str(slice_seconds), *more, "--url", instance.url)
            done = instance.commons(*command, timeout=1_800)
            assert done.returncode == 0, done.stderr
            report = json.loads(done.stdout.splitlines()[-1])
            check(report)
            if not more:
                assert report["readings_sent"] == READINGS[slice_seconds]
            check_epochs(instance)
            rewards.add(tuple(report[name] for name in ("rewards_paid", "reward_reserve", "reward_kept")))
        finally:
            instance.stop()
    assert len(rewards) == 1


@needs_data
@pytest.mark.soak
@pytest.mark.parametrize("seed", range(3))
def test_the_real_trace_survives_a_kill_at_any_moment(tmp_path: Path, seed: int) -> None:
    instance = Instance(tmp_path / "home")
    instance.start()
    chance = random.Random(seed)
    command = arguments("--shuffle", "--duplicates", "0.1", "--seed", str(seed), "--url", instance.url)
    try:
        for _ in range(2):
            kill_once_under_way(instance, command, after_bytes=chance.randrange(45_000_000, 90_000_000))
            instance.start()
        done = instance.commons(*command, timeout=1_800)
        assert done.returncode == 0, done.stderr
        check(json.loads(done.stdout.splitlines()[-1]))
        check_epochs(instance)
    finally:
        if instance.process is not None:
            instance.stop()


def test_psutil_sees_the_family(tmp_path: Path) -> None:
    """The memory figure above is of every process of ours: supervisor, edge, followers."""
    instance = Instance(tmp_path / "home")
    instance.start()
    try:
        ours = [p for p in instance.family() if isinstance(p, psutil.Process) and "postgres" not in p.name()]
        assert len(ours) == 3
    finally:
        assert instance.stop() == 0
