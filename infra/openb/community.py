"""The genesis an import writes: members, quota, table, and the backfill with its own fund."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from events.envelope import time_text
from events.genesis import (
    Backfill,
    BackfillSource,
    Community,
    Currency,
    Epochs,
    Founder,
    MeteringRules,
    PerformanceTable,
    Pool,
    Project,
    Resources,
)
from events.registry_terms import PublicKey
from infra.openb.names import Names
from infra.openb.trace import Trace

PROVIDERS: Final = tuple(f"provider-{number}" for number in range(10))
"""Members that lend the trace's nodes in turn."""

CONSUMER: Final = "consumer"
"""The member whose project uses them."""

INITIAL_SUPPLY: Final = 100_000_000_000_000
FUND_PPM: Final = 15_000
EPOCH_SECONDS: Final = 86_400


def backfill_of(trace: Trace, names: Names, name: str, start_ms: int, fund: int, epoch_ms: int) -> Backfill:
    """Return the permission to record the trace from `start_ms` on, paid from `fund` in equal parts per epoch."""
    end_ms = start_ms + trace.end * 1_000
    epochs = -(-trace.end * 1_000 // epoch_ms)
    nodes = sorted(names.node(node.name).node for node in trace.nodes)
    return Backfill(
        name=name,
        start=time_text(start_ms * 1_000),
        end=time_text(end_ms * 1_000),
        node_count=len(nodes),
        nodes_sha256=hashlib.sha256("".join(f"{node}\n" for node in nodes).encode()).hexdigest(),
        sources=tuple(BackfillSource(name=file, sha256=digest) for file, digest in sorted(trace.sha256.items())),
        fund=str(fund),
        pool_per_epoch=str(fund // max(epochs, 1)),
    )


def quota_of(trace: Trace) -> tuple[str, str]:
    """Return what the trace's leases may cost at most: micro reference-GPU-hours and milli-core-hours."""
    fastest = 10  # above 1.25 x the fastest card of the table
    gpu = trace.milli_gpu_seconds * 1_000 * fastest // 3_600 + len(trace.pods)
    cpu = sum(pod.cpu_milli * (pod.deleted - pod.scheduled) for pod in trace.pods if not pod.gpus) // 3_600
    return str(gpu), str(cpu + len(trace.pods))


def import_community(
    trace: Trace, names: Names, operator: PublicKey, start_ms: int, tables: Sequence[PerformanceTable]
) -> Community:
    """Return the document `commons import openb` founds an empty instance with; the same for the same arguments."""
    fund = INITIAL_SUPPLY * FUND_PPM // 1_000_000
    gpu, cpu = quota_of(trace)
    providers = tuple(
        Founder(handle=handle, kind="organisation", key=names.member(handle).public, roles=("provider",))
        for handle in PROVIDERS
    )
    return Community(
        format="commons.genesis/1",
        name="The openb trace, imported",
        origin="openb.commons.example",
        members=(
            Founder(handle="operator", kind="organisation", key=operator, roles=("operator", "steward")),
            *providers,
            Founder(handle=CONSUMER, kind="organisation", key=names.member(CONSUMER).public, roles=("contributor",)),
        ),
        currency=Currency(
            cap=str(INITIAL_SUPPLY * 10),
            initial_supply=str(INITIAL_SUPPLY),
            emission_per_epoch="10000000000",
            distribution=(
                Pool(name="treasury", share_ppm=1_000_000 - FUND_PPM),
                Pool(name="backfill-openb", share_ppm=FUND_PPM),
            ),
        ),
        epochs=Epochs(zero=time_text(start_ms * 1_000), seconds=EPOCH_SECONDS),
        performance_tables=tuple(tables),
        resources=Resources(offered=("gpu", "cpu")),
        # Models without a table entry get no results and would never be verified; they are active, at the floor of PF.
        metering=MeteringRules(challenge_first=False),
        projects=(
            Project(
                slug="openb",
                owner=CONSUMER,
                size_class="large",
                gpu_micro_rgpu_hours=gpu,
                cpu_milli_core_hours=cpu,
            ),
        ),
        backfills=(backfill_of(trace, names, "openb", start_ms, fund, EPOCH_SECONDS * 1_000),),
    )
