"""Disputes about what a node did: they stop the release of its holdback, and upheld they forfeit it."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from events.metering import DisputeEnded, UsageDisputed
from events.registry_terms import KINDS
from events.values import identifier
from services.kernel.decider import Context, Decision, Emit
from services.kernel.errors import InvalidField
from services.metering.commands import DisputeUsage, EndDispute
from services.metering.dispute_errors import (
    DisputeKnown,
    DisputeOver,
    NotADisputant,
    NotAJudge,
    NothingHeld,
    UnknownDispute,
)
from services.metering.errors import UnknownNode
from services.metering.state import Metering

MAX_EPOCHS: Final = 35
MAX_REASON_CHARACTERS: Final = 1_000


def dispute_usage(command: DisputeUsage, state: Metering, context: Context) -> Decision:
    """Open a dispute. Raises InvalidField, UnknownNode, NothingHeld, NotADisputant, DisputeKnown."""
    epochs = command.epochs
    if not 1 <= len(epochs) <= MAX_EPOCHS or any(one >= other for one, other in pairwise(epochs)):
        raise InvalidField(f"a dispute names 1 to {MAX_EPOCHS} epochs in order, each once", field="epochs")
    if not 1 <= len(command.reason) <= MAX_REASON_CHARACTERS or not command.reason.isprintable():
        raise InvalidField(f"a reason has 1 to {MAX_REASON_CHARACTERS} printable characters", field="reason")
    if command.node not in context.directory.nodes:
        raise UnknownNode("the registry knows no such node", node=command.node)
    for epoch in epochs:
        if not _may_be_held(state, command.node, epoch, context.time_ms):
            raise NothingHeld("nothing is held of the node's epoch, nor may be soon", node=command.node, epoch=epoch)
    if not is_steward(context) and not _consumed(state, command, context.actor):
        raise NotADisputant("a steward disputes usage, or who had a lease there then", node=command.node)
    for known in state.holdback.disputes.values():
        if known.by == context.actor and known.node == command.node and not set(known.epochs).isdisjoint(epochs):
            raise DisputeKnown("one disputes an epoch of a node once", node=command.node, epochs=list(known.epochs))
    dispute = f"dispute/{identifier('commons.dispute', context.actor, context.command_id)}"
    fact = UsageDisputed(dispute, command.node, epochs, context.actor, command.reason, command.authorization)
    return Decision([Emit(command.node, fact)], {"dispute": dispute, "node": command.node})


def _may_be_held(state: Metering, node: str, epoch: int, now_ms: int) -> bool:
    """Tell whether an epoch of a node is held, or has begun and not closed yet."""
    assert state.rules is not None
    if not state.rules.rules.holdback_ppm:
        return False
    if epoch >= state.next_live:
        return epoch <= state.grid.epoch_of(now_ms)
    lost = state.holdback.lost().get(epoch, {})
    return any((kind, node) in state.holdback.held.get(epoch, {}) and (kind, node) not in lost for kind in KINDS)


def is_steward(context: Context) -> bool:
    """Tell whether the actor is a steward."""
    member = context.directory.members.get(context.actor)
    return member is not None and "steward" in member.roles


def _consumed(state: Metering, command: DisputeUsage, actor: str) -> bool:
    """Tell whether the actor owns a project that had a lease on the node in one of the epochs."""
    spans = [(state.grid.start(epoch), state.grid.end(epoch)) for epoch in command.epochs]
    return any(
        lease.fact.node == command.node
        and state.projects[lease.project].owner == actor
        and any(lease.fact.start_ms < end and lease.end_ms > start for start, end in spans)
        for lease in state.leases.values()
    )


def end_dispute(command: EndDispute, state: Metering, context: Context) -> Decision:
    """Rule on a dispute. Raises UnknownDispute, DisputeOver, NotAJudge."""
    known = state.holdback.disputes.get(command.dispute)
    if known is None:
        raise UnknownDispute("there is no such dispute", dispute=command.dispute)
    if known.ruling:
        raise DisputeOver("the dispute has ended", dispute=command.dispute)
    node = context.directory.nodes.get(known.node)
    if not is_steward(context) or context.actor == known.by or (node is not None and node.owner == context.actor):
        raise NotAJudge("a steward rules who neither opened it nor owns the node", dispute=command.dispute)
    fact = DisputeEnded(command.dispute, known.node, context.actor, command.ruling, command.authorization)
    return Decision([Emit(known.node, fact)], {"dispute": command.dispute, "ruling": command.ruling})
