"""Every follower remembers a record that is there: policies, views, and the snapshots of folded states."""

from __future__ import annotations

from collections.abc import AsyncIterator

from events.channels import service_of
from events.store import Checkpoint, StoreRewound, verify_checkpoint
from infra.checks.check import Check, listed
from infra.platform import Platform

_REBUILD = "once the restored state is accepted, run `commons rebuild {}`"


async def views(platform: Platform) -> AsyncIterator[Check]:
    """Look at the checkpoints of every view, and at the facts it could not fold."""
    parked = await platform.view_store.parked_counts()
    for view in platform.views:
        try:
            for checkpoint in (await platform.view_store.checkpoints(view.follower)).values():
                await verify_checkpoint(platform.stores[service_of(checkpoint.channel)], checkpoint)
        except StoreRewound as error:
            yield Check(f"view {view.name}", "broken", str(error), _REBUILD.format(view.name))
            continue
        if count := parked.get(view.follower):
            fix = f"see `commons views parked`, then `commons views repair {view.name}`"
            yield Check(f"view {view.name}", "broken", f"{count:,} facts are parked", fix)
        else:
            yield Check(f"view {view.name}", "ok", "its checkpoints name records that are there")


async def policies(platform: Platform) -> Check:
    """Look at every checkpoint and snapshot that the services keep beside their facts."""
    wrong, seen = [], 0
    for name in platform.stores:
        for point in await _remembered(platform, name):
            seen += 1
            source = platform.stores.get(service_of(point.channel))
            if source is None:
                continue
            try:
                await verify_checkpoint(source, point)
            except StoreRewound:
                wrong.append(f"{point.follower} at {point.channel} {point.position}")
    if wrong:
        fix = "a single service was restored: restore a backup of all services (`commons restore --facts-only`)"
        return Check("policies", "broken", f"the facts they have seen are gone: {listed(wrong)}", fix)
    parked = {name: count for aside in platform.asides.values() for name, count in (await aside.counts()).items()}
    if parked:
        told = listed([f"{count:,} of {name}" for name, count in parked.items()])
        fix = "see `commons parked list`, then `commons parked replay`"
        return Check("policies", "broken", f"facts are parked: {told}", fix)
    return Check("policies", "ok", f"{seen} checkpoints and snapshots name records that are there")


async def _remembered(platform: Platform, name: str) -> list[Checkpoint]:
    tracked = await platform.readers.fetch(
        f"SELECT follower, channel, notification_id, record_hash FROM \"{name}\".tracking WHERE channel <> ''"  # noqa: S608 - a name of ours
    )
    kept = await platform.readers.fetch(
        f"SELECT 'snapshot ' || name, $1::text, position, record_hash FROM \"{name}\".snapshots",  # noqa: S608 - a name of ours
        name,
    )
    return [Checkpoint(*row) for row in (*tracked, *kept)]
