"""Others' facts that become commands of the treasury."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from events import metering, registry
from events.catalog import Recorded
from events.treasury import GateAnswer, ScoredNode
from services.kernel.decider import Command, Policy
from services.treasury.commands import (
    AdoptGenesis,
    ForfeitHoldback,
    NoteEpochScores,
    OpenMemberAccount,
    PayLateUsage,
    ReleaseHoldback,
    SettleEpoch,
)
from services.treasury.errors import AnchorPending
from services.treasury.gate import ReleaseGate

EPOCH_FACTS: Final = (
    metering.EpochPaged,
    metering.EpochClosed,
    metering.LateUsageScored,
    metering.HoldbackReleased,
    metering.HoldbackForfeited,
)


def policies(gate: ReleaseGate) -> tuple[Policy, ...]:
    """Return the treasury's policies.

    One policy follows all of an epoch's facts, so their order in metering holds here too: pages, closing, late usage,
    the end of what was held back.
    """
    return (
        Policy("treasury.adopt-genesis", "registry", (registry.CommunityFounded,), adopt_genesis),
        Policy("treasury.open-accounts", "registry", (registry.MemberRegistered,), open_accounts),
        Policy(
            "treasury.settle-epochs",
            "metering",
            EPOCH_FACTS,
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
    """Note pages, settle epochs, pay late usage, end holdbacks. Raises AnchorPending while the gate says wait."""
    fact = recorded.fact
    if isinstance(fact, metering.EpochPaged):
        return (NoteEpochScores(fact.epoch, fact.page, recorded.id, _scored(fact.nodes), fact.kind or "gpu"),)
    if isinstance(fact, metering.HoldbackForfeited):
        return (ForfeitHoldback(fact.epoch, fact.kind, fact.nodes, recorded.id),)
    answer = _ask(gate, recorded)
    if isinstance(fact, metering.HoldbackReleased):
        return (ReleaseHoldback(fact.epoch, fact.kind, fact.nodes, recorded.id, answer),)
    if isinstance(fact, metering.EpochClosed):
        totals = {kind: total.micro_rgpu_hours for kind, total in fact.totals.items()}
        gpus, others = totals.pop("gpu", "0"), tuple(totals.items())
        return (SettleEpoch(fact.epoch, fact.pages, gpus, fact.backfill, recorded.id, answer, others),)
    assert isinstance(fact, metering.LateUsageScored)
    late = fact.epoch, fact.scored_in, fact.page, fact.pages, fact.total_micro_rgpu_hours
    kind, again = fact.kind or "gpu", fact.held_again or ()
    return (PayLateUsage(*late, recorded.id, _scored(fact.nodes), answer, kind, again),)


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
