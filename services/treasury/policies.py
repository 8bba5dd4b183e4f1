"""Others' facts that become commands of the treasury."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from events import metering, registry
from events.catalog import Recorded
from events.treasury import GateAnswer, ScoredNode
from services.kernel.decider import Command, Policy
from services.treasury.commands import (
    AdoptGenesis,
    NoteEpochScores,
    OpenMemberAccount,
    PayLateUsage,
    SettleEpoch,
)
from services.treasury.errors import AnchorPending
from services.treasury.gate import ReleaseGate


def policies(gate: ReleaseGate) -> tuple[Policy, ...]:
    """Return the treasury's policies.

    One policy follows all of an epoch's facts, so their order in metering holds here too: pages, closing, late usage.
    """
    return (
        Policy("treasury.adopt-genesis", "registry", (registry.CommunityFounded,), adopt_genesis),
        Policy("treasury.open-accounts", "registry", (registry.MemberRegistered,), open_accounts),
        Policy(
            "treasury.settle-epochs",
            "metering",
            (metering.EpochPaged, metering.EpochClosed, metering.LateUsageScored),
            partial(settle_epochs, gate),
        ),
    )


def adopt_genesis(recorded: Recorded) -> Sequence[Command]:
    """Define the book from the founding document."""
    fact = recorded.fact
    assert isinstance(fact, registry.CommunityFounded)
    return (AdoptGenesis(fact.community, recorded.time_ms),)


def open_accounts(recorded: Recorded) -> Sequence[Command]:
    """Give every new member an account."""
    fact = recorded.fact
    assert isinstance(fact, registry.MemberRegistered)
    return (OpenMemberAccount(fact.member),)


def settle_epochs(gate: ReleaseGate, recorded: Recorded) -> Sequence[Command]:
    """Note pages, settle closed epochs, pay late usage. Raises AnchorPending while the gate says wait."""
    fact = recorded.fact
    if isinstance(fact, metering.EpochPaged):
        return (NoteEpochScores(fact.epoch, fact.page, recorded.id, _scored(fact.nodes)),)
    answer = _ask(gate, recorded)
    if isinstance(fact, metering.EpochClosed):
        return (SettleEpoch(fact.epoch, fact.pages, _total(fact), fact.backfill, recorded.id, answer),)
    assert isinstance(fact, metering.LateUsageScored)
    total = fact.total_micro_rgpu_hours
    late = fact.epoch, fact.scored_in, fact.page, fact.pages, total
    return (PayLateUsage(*late, recorded.id, _scored(fact.nodes), answer),)


def _ask(gate: ReleaseGate, recorded: Recorded) -> GateAnswer:
    answer = gate.answer(recorded.service, recorded.position)
    if answer is None:
        raise AnchorPending(
            f"position {recorded.position} of {recorded.service} is not under a finalised anchor yet",
            retry_after_seconds=1,
        )
    return answer


def _scored(nodes: Sequence[metering.NodeScore]) -> tuple[ScoredNode, ...]:
    return tuple(ScoredNode(node.node, node.owner, node.micro_rgpu_hours) for node in nodes)


def _total(fact: metering.EpochClosed) -> str:
    """Return the epoch's whole score: a node's Compute Score spans the sub-pools, so their totals are summed."""
    return str(sum(int(total.micro_rgpu_hours) for total in fact.totals.values()))
