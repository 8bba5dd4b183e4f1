"""The public openb trace as a world of metering: its GPU nodes registered, its scheduled pods as leases."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.metering.commands import LeaseTerms
from services.metering.state import LeaseState
from tests.metering_world import DAY, World, lease_id

DATA = Path(__file__).parents[2] / "shared" / "data"
NODES = DATA / "nodes" / "openb_node_list_gpu_node.csv"
PODS = DATA / "jobs" / "openb_pod_list_default.csv"
TOTAL_MILLI_GPU_SECONDS = 185_294_426_970
"""METERING's answer key: sum over scheduled pods of num_gpu x gpu_milli x (deletion - scheduled)."""

ZERO = "2023-01-01T00:00:00Z"
ZERO_MS = 1_672_531_200_000


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def world() -> World:
    nodes = rows(NODES)
    names = [row["sn"] for row in nodes]
    made = World(backfill_days=150, backfill_nodes=names, zero=ZERO, now_ms=ZERO_MS + 1_400 * DAY, quota=str(10**18))
    for row in nodes:
        made.with_node(row["sn"], int(row["gpu"]), row["model"], cpu_milli=int(row["cpu_milli"]))
    return made.open_backfill()


def pods() -> list[dict[str, str]]:
    scheduled = [row for row in rows(PODS) if row["scheduled_time"]]
    return sorted(scheduled, key=lambda row: (int(row["scheduled_time"]), row["name"]))


def terms(row: dict[str, str]) -> LeaseTerms:
    gpus = int(row["num_gpu"])
    start, end = int(row["scheduled_time"]) * 1_000, int(row["deletion_time"]) * 1_000
    return LeaseTerms(
        lease_id(row["name"]),
        "gpu" if gpus else "cpu",
        gpus,
        int(row["gpu_milli"]) if gpus else int(row["cpu_milli"]),
        ZERO_MS + start,
        ZERO_MS + end,
        tuple(row["gpu_spec"].split("|")) if gpus and row["gpu_spec"] else (),
    )


def open_all(made: World, asked: Sequence[LeaseTerms]) -> None:
    for first in range(0, len(asked), 50):
        made.leases(*asked[first : first + 50])


def slices(lease: LeaseState, step_ms: int = 300_000) -> Iterator[tuple[str, str, int, int, int]]:
    """Yield the readings of a lease, counted from its start."""
    fact = lease.fact
    for device in fact.devices:
        for start in range(fact.start_ms, lease.end_ms, step_ms):
            yield device.device, fact.lease, start, min(start + step_ms, lease.end_ms), 1_000
