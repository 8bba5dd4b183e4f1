"""registered -> verified -> active <-> suspended. Retirement stands with the disputes it may end."""

from __future__ import annotations

from typing import Final, Literal

from events.registry import ChallengesNoted, NodeActivated, NodeSuspended, NodeVerified
from services.kernel.decider import Context, Decision, Emit
from services.registry.commands import NoteChallenges, ReinstateNode, SuspendNode
from services.registry.decide.guards import owned_node, permitted, standing_node
from services.registry.decide.standing import lift
from services.registry.errors import AlreadySuspended, NotSuspended
from services.registry.state import Directory, Node, suspension

FIRST_CHALLENGES: Final = 3
"""Results each GPU of a node must have passed; fewer than 3 pay at the floor anyway (METERING)."""


def note_challenges(command: NoteChallenges, state: Directory, _context: Context) -> Decision:
    """Count passed results towards verification; never refuses, since the results are facts already."""
    node = state.nodes.get(command.node)
    if node is None or node.standing != "registered":
        return Decision()
    gpus = {device.device for device in node.fact.devices if device.kind == "gpu"}
    passed = {device: count for device, count in command.passed if device in gpus and count > 0}
    if not passed:
        return Decision()
    facts = [Emit(node.node, ChallengesNoted(node.node, passed, command.evidence))]
    if all(node.passed.get(gpu, 0) + passed.get(gpu, 0) >= FIRST_CHALLENGES for gpu in gpus):
        facts.append(Emit(node.node, NodeVerified(node.node, command.evidence)))
        if not node.suspensions:
            facts.append(Emit(node.node, NodeActivated(node.node)))
    return Decision(tuple(facts))


def suspend_node(command: SuspendNode, state: Directory, context: Context) -> Decision:
    """Begin a suspension. Raises UnknownNode, NodeIsRetired, NotTheOwner, PermissionDenied, AlreadySuspended."""
    node = _rightful(state, command.node, command.cause, context)
    if suspension(command.cause, None) in node.suspensions:
        raise AlreadySuspended(f"the node is suspended for {command.cause} already", node=node.node)
    fact = NodeSuspended(node.node, command.cause, None, command.authorization)
    return Decision((Emit(node.node, fact),), {"node": node.node, "status": "suspended"})


def reinstate_node(command: ReinstateNode, state: Directory, context: Context) -> Decision:
    """End a suspension; others stay in force. Raises like `suspend_node`, and NotSuspended."""
    node = _rightful(state, command.node, command.cause, context)
    if suspension(command.cause, None) not in node.suspensions:
        raise NotSuspended(f"the node is not suspended for {command.cause}", node=node.node)
    facts = tuple(lift(state, node, command.cause, None, (command.authorization,)))
    return Decision(facts, {"node": node.node})


def _rightful(
    state: Directory, node: str, cause: Literal["failed-challenges", "steward", "owner"], context: Context
) -> Node:
    """Return the node when the actor may begin or end this suspension: the owner its pause, a steward the rest."""
    if cause == "owner":
        return owned_node(state, node, context)
    permitted(state, context, "nodes.oversee")
    return standing_node(state, node)
