"""Facts of the registry that become commands of metering. The names are published like types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from events.catalog import Recorded
from events.registry import (
    CommunityFounded,
    NodeActivated,
    NodeReinstated,
    NodeRetired,
    NodeWindowStated,
    PerformanceTableAdopted,
)
from services.kernel.decider import Command, Policy
from services.metering.commands import AdoptGenesis, AdoptNode, AdoptTable

NODE_FACTS: Final = (NodeActivated, NodeReinstated, NodeRetired, NodeWindowStated)


def on_registry(recorded: Recorded) -> Sequence[Command]:
    """Take over the rules, tables, quotas and backfills of genesis, later tables, and nodes with their windows."""
    fact = recorded.fact
    if isinstance(fact, CommunityFounded):
        return [AdoptGenesis(fact.community, recorded.time_ms)]
    if isinstance(fact, NODE_FACTS):
        return [AdoptNode(fact.node, recorded.time_ms)]
    assert isinstance(fact, PerformanceTableAdopted)
    return [AdoptTable(fact.table, fact.sha256, fact.effective_ms)]


def policies() -> tuple[Policy, ...]:
    """Return metering's one policy: one, so that genesis comes before all that builds on it."""
    return (
        Policy("metering.adopt", "registry", (CommunityFounded, PerformanceTableAdopted, *NODE_FACTS), on_registry),
    )
