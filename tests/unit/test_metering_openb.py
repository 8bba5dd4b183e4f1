"""The answer key of METERING: the public openb trace, folded by the rules, comes to its total exactly."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from services.metering.batches import MAX_READING_MS
from services.metering.folding import fold
from services.metering.state import LeaseState, Metering
from tests.metering_openb import (
    NODES,
    PODS,
    TOTAL_MILLI_GPU_SECONDS,
    ZERO_MS,
    open_all,
    pods,
    rows,
    slices,
    terms,
    world,
)
from tests.metering_world import DAY, HOUR, World, node

pytestmark = pytest.mark.skipif(not PODS.exists(), reason="the openb trace is not beside the repository")

NODE_NAMES = {node(row["sn"]): row["sn"] for row in (rows(NODES) if NODES.exists() else [])}


def gpu_leases(state: Metering) -> list[LeaseState]:
    return [lease for lease in state.leases.values() if lease.fact.kind == "gpu"]


def whole(lease: LeaseState) -> int:
    """Return what a lease comes to when it is read at its whole share, in milli-ms."""
    return lease.fact.share * len(lease.fact.devices) * (lease.end_ms - lease.fact.start_ms)


def allocated(made: World, epochs: int = 150) -> int:
    made.close_backfill()
    return sum(int(made.close(epoch)[-1].totals["gpu"].allocated_milli_ms) for epoch in range(epochs))


@pytest.fixture(scope="module")
def leased() -> World:
    """The whole trace's leases, opened once; each test goes on from a copy."""
    made = world()
    open_all(made, [terms(row) for row in pods()])
    return made


@pytest.fixture
def trace(leased: World) -> World:
    state = leased.spec.state
    leased.spec.versions = dict(leased.spec.versions)
    yield leased
    leased.spec.state = state


def test_every_scheduled_pod_has_a_lease_and_no_device_is_oversubscribed(trace: World) -> None:
    leases = trace.spec.state.leases
    assert len(leases) == 7_255
    assert sum(lease.fact.kind == "cpu" for lease in leases.values()) == 1_052
    assert sum(map(whole, gpu_leases(trace.spec.state))) == TOTAL_MILLI_GPU_SECONDS * 1_000
    changes: dict[str, list[tuple[int, int]]] = {}
    for lease in gpu_leases(trace.spec.state):
        for device in lease.fact.devices:
            changes.setdefault(device.device, []).append((lease.fact.start_ms, lease.fact.share))
            changes[device.device].append((lease.end_ms, -lease.fact.share))
    for device in changes.values():
        total = 0
        for _, change in sorted(device):
            total += change
            assert 0 <= total <= 1_000


def test_the_whole_trace_comes_to_the_answer_key(trace: World) -> None:
    state = trace.spec.state
    for lease in gpu_leases(state):
        devices = [device.device for device in lease.fact.devices]
        # What thousands of readings of a lease merge to, laid at once.
        runs = [(number, 0, lease.fact.start_ms, lease.end_ms, 1_000) for number in range(len(devices))]
        state = replace(state, usage=fold(state, runs, devices, [lease.fact.lease]).usage)
    trace.spec.state = state
    assert allocated(trace) // 1_000 == TOTAL_MILLI_GPU_SECONDS


def test_a_sample_shuffled_duplicated_and_resliced_comes_to_its_own_sum(trace: World) -> None:
    chance = random.Random(7)
    ended = [lease for lease in gpu_leases(trace.spec.state) if lease.end_ms < ZERO_MS + 150 * DAY]
    sample = chance.sample([lease for lease in ended if lease.end_ms - lease.fact.start_ms < 20 * HOUR], 120)
    by_node: dict[str, list[tuple[str, str, int, int, int]]] = {}
    for lease in sample:
        readings = list(slices(lease))
        for device, name, start, end, level in chance.sample(readings, len(readings) // 5):
            later = min(end + (end - start) // 2, lease.end_ms)
            middle = max(start + (end - start) // 2, later - MAX_READING_MS)
            readings += [(device, name, start, end, level), (device, name, middle, later, level)]
        by_node.setdefault(lease.fact.node, []).extend(readings)
    for name, readings in sorted(by_node.items()):
        chance.shuffle(readings)
        for at in range(0, len(readings), 900):
            fact = trace.record(NODE_NAMES[name], *readings[at : at + 900])
            assert (fact.rejected, fact.conflicts) == (None, ())
    assert allocated(trace) == sum(map(whole, sample))
