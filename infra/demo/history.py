"""The demo's community: the shipped document with a day of sample history as its backfill."""

from __future__ import annotations

from typing import Final

import msgspec

from events.envelope import time_us
from events.genesis import Community, Pool, Project
from infra.genesis_file import demo_yaml, read_community
from infra.keys import member_key
from infra.openb.community import backfill_of, quota_of
from infra.openb.names import Names
from infra.openb.trace import Trace, read_trace
from infra.sample.generate import NODE_FILE, POD_FILE

HISTORY: Final = "sample"
"""The name of the backfill, of its project and of the realm its keys derive in."""

PROVIDERS: Final = ("aurora", "basalt", "cedar")
CONSUMER: Final = "lab"

FUND_PPM: Final = 10_000
FUND_FROM: Final = "grants"
"""The pool of the shipped document that pays for the demo's history."""


def sample_trace() -> Trace:
    """Return the shipped sample."""
    return read_trace(NODE_FILE, POD_FILE)


def demo_community(seed: bytes, names: Names, now_ms: int) -> Community:
    """Return the shipped document with the sample as a backfill that ends before the current epoch."""
    shipped = read_community(demo_yaml(), lambda handle: member_key(seed, handle).public)
    trace, currency = sample_trace(), shipped.currency
    fund = int(currency.initial_supply) * FUND_PPM // 1_000_000
    start_ms = history_start_ms(shipped, trace, now_ms)
    gpu, cpu = quota_of(trace)
    project = Project(
        slug=HISTORY, owner=CONSUMER, size_class="small", gpu_micro_rgpu_hours=gpu, cpu_milli_core_hours=cpu
    )
    pools = (*(_lessened(pool) for pool in currency.distribution), Pool(name=f"backfill-{HISTORY}", share_ppm=FUND_PPM))
    return msgspec.structs.replace(
        shipped,
        currency=msgspec.structs.replace(currency, distribution=pools),
        projects=(project, *shipped.projects),
        backfills=(backfill_of(trace, names, HISTORY, start_ms, fund, shipped.epochs.seconds * 1_000),),
    )


def history_start_ms(community: Community, trace: Trace, now_ms: int) -> int:
    """Return a moment on the community's grid of epochs from which the trace ends before the current epoch."""
    zero, length = time_us(community.epochs.zero) // 1_000, community.epochs.seconds * 1_000
    current = (now_ms - zero) // length
    return zero + (current - -(-trace.end * 1_000 // length)) * length


def _lessened(pool: Pool) -> Pool:
    if pool.name != FUND_FROM:
        return pool
    return msgspec.structs.replace(pool, share_ppm=pool.share_ppm - FUND_PPM)
