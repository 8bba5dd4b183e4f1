"""What metering takes over from genesis and from the registry's later tables."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from events.envelope import Fact, time_us
from events.genesis import Backfill, Community, Founder, PerformanceTable, Project
from events.metering import BackfillNamed, QuotaGranted, RulesAdopted, TableAdopted
from events.values import member_id
from services.kernel.decider import Context, Decision, Emit
from services.kernel.directory import raw_key
from services.metering.commands import AdoptGenesis, AdoptTable
from services.metering.errors import NotAdopted, SpansOverlap
from services.metering.grid import Grid
from services.metering.state import Metering

RULES = "rules"


def adopt_genesis(command: AdoptGenesis, state: Metering, _context: Context) -> Decision:
    """Emit the rules, the tables, every project's quota and every backfill. Nothing when they are adopted already."""
    if state.rules is not None:
        return Decision()
    community = command.community
    _refuse_shared_epochs(community)
    return Decision([*_rules(community, command.founded_ms), *_projects(community), *_backfills(community)])


def _rules(community: Community, founded_ms: int) -> Iterable[Emit]:
    grid = _grid(community)
    yield Emit(
        RULES,
        RulesAdopted(
            1,
            grid.zero_ms,
            grid.length_ms,
            community.epochs.close_after_seconds * 1_000,
            grid.epoch_of(founded_ms),
            community.metering,
        ),
    )
    # The first tables apply to all history a backfill may bring, so they are in force from its first epoch on.
    starts = [grid.zero_ms, *(grid.start(grid.epoch_of(_ms(backfill.start))) for backfill in community.backfills)]
    for table in community.performance_tables:
        yield Emit(RULES, TableAdopted(table, table_sha256(table), min(starts)))


def table_sha256(table: PerformanceTable) -> str:
    """Return the hex SHA-256 of a table's canonical JSON (sorted keys, defaults written out), as the registry does."""
    return hashlib.sha256(msgspec.json.encode(table, order="sorted")).hexdigest()


def _projects(community: Community) -> Iterable[Emit]:
    founders = {founder.handle: founder for founder in community.members}
    for project in community.projects:
        yield Emit(f"project/{project.slug}", _quota(project, founders[project.owner]))


def _quota(project: Project, owner: Founder) -> Fact:
    return QuotaGranted(
        project.slug,
        member_id(raw_key(owner.key)),
        owner.guild,
        project.size_class,
        project.work_class,
        project.gpu_micro_rgpu_hours,
        project.cpu_milli_core_hours,
        "genesis",
        project.storage_mb_hours,
        project.bandwidth_mb,
    )


def _backfills(community: Community) -> Iterable[Emit]:
    for backfill in community.backfills:
        fact = BackfillNamed(
            backfill.name,
            _ms(backfill.start),
            _ms(backfill.end),
            backfill.node_count,
            backfill.nodes_sha256,
            backfill.sources,
        )
        yield Emit(f"backfill/{backfill.name}", fact)


def _refuse_shared_epochs(community: Community) -> None:
    grid = _grid(community)
    taken: dict[int, str] = {}
    for backfill in community.backfills:
        for epoch in _epochs(grid, backfill):
            if taken.setdefault(epoch, backfill.name) != backfill.name:
                raise SpansOverlap(
                    "two backfills share an epoch", backfill=backfill.name, other=taken[epoch], epoch=epoch
                )


def _epochs(grid: Grid, backfill: Backfill) -> range:
    return range(grid.epoch_of(_ms(backfill.start)), grid.epoch_of(_ms(backfill.end) - 1) + 1)


def _grid(community: Community) -> Grid:
    return Grid(_ms(community.epochs.zero), community.epochs.seconds * 1_000)


def _ms(text: str) -> int:
    return time_us(text) // 1_000


def adopt_table(command: AdoptTable, state: Metering, context: Context) -> Decision:
    """Put a table in force, never for an epoch that has begun; nothing when its version is known.

    Raises NotAdopted before genesis, so that genesis' own tables come with genesis.
    """
    if state.rules is None:
        raise NotAdopted("genesis comes first")
    table = command.table
    if any(known.table.version == table.version for known in state.tables.get(table.work_class, ())):
        return Decision()
    return Decision([Emit(RULES, TableAdopted(table, command.sha256, max(command.effective_ms, context.time_ms)))])
