"""Facts of the registry that become commands of metering. The names are published like types."""

from __future__ import annotations

from collections.abc import Sequence

from events.catalog import Recorded
from events.registry import CommunityFounded, PerformanceTableAdopted
from services.kernel.decider import Command, Policy
from services.metering.commands import AdoptGenesis, AdoptTable


def on_registry(recorded: Recorded) -> Sequence[Command]:
    """Take over the rules, tables, quotas and backfills of genesis, and put later tables in force."""
    fact = recorded.fact
    if isinstance(fact, CommunityFounded):
        return [AdoptGenesis(fact.community, recorded.time_ms)]
    assert isinstance(fact, PerformanceTableAdopted)
    return [AdoptTable(fact.table, fact.sha256, fact.effective_ms)]


def policies() -> tuple[Policy, ...]:
    """Return metering's one policy: one, so that genesis comes before the tables that build on it."""
    return (Policy("metering.adopt", "registry", (CommunityFounded, PerformanceTableAdopted), on_registry),)
