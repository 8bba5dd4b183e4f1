"""The rules of sub-pools and holdback in a genesis document. Every function yields problems as `path: sentence`."""

from __future__ import annotations

from collections.abc import Iterator

from events.genesis import Community
from events.values import PPM
from services.registry.genesis_values import amount_problems, repeated


def pool_problems(community: Community) -> Iterator[str]:
    """Judge what each kind of resource shares out, and how much of it waits for a challenge."""
    rules = community.metering
    if not 0 <= (rules.holdback_ppm or 0) <= PPM:
        yield f"metering.holdback_ppm: {rules.holdback_ppm} is not a share from 0 to {PPM} ppm"
    pools = rules.sub_pools
    if pools == ():
        yield "metering.sub_pools: none; leave them out where GPUs have the whole"
    if not pools:
        return
    total = sum(pool.share_ppm for pool in pools)
    if total != PPM:
        yield f"metering.sub_pools: shares sum to {total} ppm, not {PPM} ppm (100 %)"
    for kind in repeated(pool.kind for pool in pools):
        yield f"metering.sub_pools: {kind} stands twice"
    for index, pool in enumerate(pools):
        path = f"metering.sub_pools[{index}]"
        if pool.kind not in community.resources.offered:
            yield f"{path}.kind: {pool.kind} is not among resources.offered"
        if not 0 <= pool.share_ppm <= PPM:
            yield f"{path}.share_ppm: {pool.share_ppm} is not a share from 0 to {PPM} ppm"
        yield from amount_problems(f"{path}.rate_cap", pool.rate_cap, least=1)
