"""Facts of the registry that become commands of metering. The names are published like types."""

from __future__ import annotations

from collections.abc import Sequence

from events.catalog import Recorded
from events.registry import CommunityFounded, PerformanceTableAdopted
from services.kernel.decider import Command, Policy
from services.metering.commands import AdoptGenesis, AdoptTable


def on_founding(recorded: Recorded) -> Sequence[Command]:
    """Take over the rules, tables, quotas and backfills of genesis."""
    assert isinstance(recorded.fact, CommunityFounded)
    return [AdoptGenesis(recorded.fact.community, recorded.time_ms)]


def on_table(recorded: Recorded) -> Sequence[Command]:
    """Put a table in force; genesis' own are known by then, because this waits for genesis."""
    fact = recorded.fact
    assert isinstance(fact, PerformanceTableAdopted)
    return [AdoptTable(fact.table, fact.sha256, fact.effective_ms)]


def policies() -> tuple[Policy, ...]:
    """Return metering's policies."""
    return (
        Policy("metering.adopt-genesis", "registry", (CommunityFounded,), on_founding),
        Policy("metering.adopt-table", "registry", (PerformanceTableAdopted,), on_table),
    )
