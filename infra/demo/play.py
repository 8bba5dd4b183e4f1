"""Plays the demo against the running instance of this home, and proves what it claims."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from events.envelope import time_us
from events.genesis import Community
from events.metering import ReadingsRecorded
from infra.api import HttpApi
from infra.demo.history import CONSUMER, HISTORY, PROVIDERS, demo_community, sample_trace
from infra.doctor import Check, examine
from infra.founding import founded
from infra.keys import KeyDirectory
from infra.local import Say, database, local_url
from infra.openb.flow import import_history
from infra.openb.names import Names
from infra.openb.report import Report
from infra.openb.run import Import, ImportRefused, Progress
from infra.openb.slices import Mess
from infra.platform import Platform, open_platform, wall_clock_ms
from infra.settings import Settings
from projections.rebuild import Rebuild, RebuildReport
from services.kernel.jws import parse_jws

SLICE_MS = 300_000
DISORDER = Mess(shuffle=True, duplicates=0.1, seed=1)


@dataclass(frozen=True)
class Proofs:
    """What was checked after the story: views against the facts, a batch against its node's key, everything else."""

    rebuilt: list[RebuildReport]
    batch: str
    node: str
    checks: list[Check]

    @property
    def sound(self) -> bool:
        """Tell whether nothing speaks against it."""
        return all(report.equal for report in self.rebuilt) and all(c.verdict != "broken" for c in self.checks)


async def play(settings: Settings, say: Say, tell: Progress) -> Report:
    """Let the sample's day happen: nodes, challenges, leases, readings in disorder, epochs, rewards.

    Raises ImportRefused where another community lives.
    """
    seed = KeyDirectory(settings.home).secret("operator")
    names = Names(seed, HISTORY)
    community = await _community(settings, seed, names, say)
    backfill = next(each for each in community.backfills if each.name == HISTORY)

    def make(api: HttpApi) -> Import:
        return Import(
            api,
            sample_trace(),
            community,
            backfill,
            names,
            names.member("operator"),
            names.member("steward"),
            SLICE_MS,
            DISORDER,
            time_us(backfill.start) // 1_000,
            PROVIDERS,
            CONSUMER,
            tell,
        )

    return await import_history(settings, community, make, say, url=local_url(settings))


async def _community(settings: Settings, seed: bytes, names: Names, say: Say) -> Community:
    """Return this home's demo community: the one that was founded, or a new one whose history ends about now."""
    async with database(settings, say) as dsn, open_platform(settings, dsn) as platform:
        there = await founded(platform)
    if there is None:
        return demo_community(seed, names, wall_clock_ms())
    if all(backfill.name != HISTORY for backfill in there.community.backfills):
        raise ImportRefused(f"this home holds {there.community.name!r}, not the demo: choose an empty COMMONS_HOME")
    return there.community


async def prove(platform: Platform, tell: Callable[[str, int, int], None]) -> Proofs:
    """Rebuild every view from the facts, check a recorded batch's signature, and examine everything else."""
    rebuilt = [
        await Rebuild(view, platform.view_store, platform.stores, platform.catalog).run() for view in platform.views
    ]
    batch, node = await _a_signed_batch(platform)
    return Proofs(rebuilt, batch, node, await examine(platform, tell))


async def _a_signed_batch(platform: Platform) -> tuple[str, str]:
    """Return a recorded batch and its node after checking the node's signature from the log alone."""
    directory = await platform.feed.current()
    position = 0
    while page := await platform.stores["metering"].read(position):
        for notification in page:
            if notification.topic == ReadingsRecorded.TYPE:
                fact: Any = platform.catalog.decode(notification.state).fact
                jws = parse_jws(fact.jws)
                jws.verify(directory.keys[jws.kid].raw)
                return fact.batch, fact.node
        position = page[-1].id
    raise LookupError("no batch was recorded")
