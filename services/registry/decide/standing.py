"""What a node is once a suspension ends: shared by every rule that lifts one."""

from __future__ import annotations

from collections.abc import Iterator

from events.registry import NodeActivated, NodeReinstated
from events.registry_terms import SuspensionCause
from services.kernel.decider import Emit
from services.registry.decide.guards import founded
from services.registry.decide.registration import must_be_challenged
from services.registry.state import Directory, Node, suspension


def lift(
    state: Directory, node: Node, cause: SuspensionCause, device: str | None, evidence: tuple[str, ...]
) -> Iterator[Emit]:
    """Yield the end of one suspension, and the activation it was standing in the way of."""
    others = node.suspensions - {suspension(cause, device)}
    status = "suspended" if others else node.standing
    yield Emit(node.node, NodeReinstated(node.node, evidence, cause, status, device))
    if others or node.standing == "active":
        return
    if node.standing == "verified" or not must_be_challenged(founded(state), node.fact.devices):
        yield Emit(node.node, NodeActivated(node.node))
