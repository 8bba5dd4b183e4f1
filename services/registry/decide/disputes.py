"""Two claims to one device: both stay suspended until all answer one challenge in one second, or all but one retire.

Hazard: the answers prove two devices only as far as the steward watched them arrive; the times in them are the
nodes' own. The steward's signature stands beside them in the facts for that reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from events.registry import NodeRetired
from events.values import HOUR_MS
from services.kernel.decider import Context, Decision, Emit
from services.registry.commands import Answer, ReinstateNodes, RetireNode
from services.registry.decide.guards import owned_node, permitted
from services.registry.decide.standing import lift
from services.registry.errors import AnswersDisagree, NotInDispute, UnknownDevice
from services.registry.state import Directory, Node, suspension

SAME_SECOND_MS: Final = 1_000
AHEAD_MS: Final = 5_000


def reinstate_nodes(command: ReinstateNodes, state: Directory, context: Context) -> Decision:
    """End a dispute. Raises UnknownDevice, NotInDispute, AnswersDisagree, PermissionDenied."""
    permitted(state, context, "nodes.oversee")
    claimants = state.devices.get(command.device)
    if not claimants:
        raise UnknownDevice("nobody claims this device", device=command.device)
    disputants = _disputants(state, command.device)
    if not disputants:
        raise NotInDispute("nobody disputes this device", device=command.device)
    _agree(command, claimants, context.time_ms)
    evidence = (*(answer.jws for answer in command.answers), command.authorization)
    facts = [emit for node in disputants for emit in lift(state, node, "duplicate-device", command.device, evidence)]
    return Decision(tuple(facts), {"device": command.device, "nodes": [node.node for node in disputants]})


def retire_node(command: RetireNode, state: Directory, context: Context) -> Decision:
    """Take the actor's node away for good. Raises UnknownNode, NodeIsRetired, NotTheOwner."""
    node = owned_node(state, command.node, context)
    facts = [Emit(node.node, NodeRetired(node.node, command.authorization))]
    facts += _undisputed(state, node, command.authorization)
    return Decision(tuple(facts), {"node": node.node, "status": "retired"})


def _undisputed(state: Directory, leaving: Node, authorization: str) -> Iterator[Emit]:
    """Reinstate whoever is now the only one to claim a device; several devices may free the same node."""
    lifted: dict[str, frozenset[str]] = {}
    for device in leaving.fact.devices:
        others = state.devices.get(device.device, frozenset()) - {leaving.node}
        name = suspension("duplicate-device", device.device)
        if len(others) != 1:
            continue
        (left,) = others
        gone = lifted.get(left, frozenset())
        node = state.nodes[left]
        if name in node.suspensions:
            yield from lift(
                state,
                replace(node, suspensions=node.suspensions - gone),
                "duplicate-device",
                device.device,
                (authorization,),
            )
            lifted[left] = gone | {name}


def _disputants(state: Directory, device: str) -> list[Node]:
    name = suspension("duplicate-device", device)
    claimants = sorted(state.devices.get(device, frozenset()))
    return [state.nodes[node] for node in claimants if name in state.nodes[node].suspensions]


def _agree(command: ReinstateNodes, claimants: frozenset[str], now_ms: int) -> None:
    answers = command.answers
    times = [answer.answered_at_ms for answer in answers]
    if sorted(answer.node for answer in answers) != sorted(claimants):
        raise AnswersDisagree("every node that claims the device answers, once", claimants=sorted(claimants))
    if any(answer.device != command.device for answer in answers):
        raise AnswersDisagree("an answer names another device", device=command.device)
    if len({_result(answer) for answer in answers}) != 1:
        raise AnswersDisagree("the nodes answered different challenges or with different results")
    if max(times) - min(times) >= SAME_SECOND_MS:
        raise AnswersDisagree("the nodes did not answer in the same second", spread_ms=max(times) - min(times))
    if min(times) < now_ms - HOUR_MS or max(times) > now_ms + AHEAD_MS:
        raise AnswersDisagree("the answers are not from the last hour")


def _result(answer: Answer) -> tuple[str, str]:
    return answer.challenge, answer.digest
