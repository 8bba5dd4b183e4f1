"""What an owner states about its node after registration."""

from __future__ import annotations

from events.registry import NodeLabelled, NodeWindowStated
from services.kernel.decider import Context, Decision, Emit
from services.registry.commands import LabelNode, StateWindow
from services.registry.decide.guards import founded, owned_node, plain_text
from services.registry.decide.minimums import meet_gpu_hours, window_hours
from services.registry.state import Directory


def state_window(command: StateWindow, state: Directory, context: Context) -> Decision:
    """State another window. Raises UnknownNode, NodeIsRetired, NotTheOwner, InvalidField, BelowMinimum."""
    node = owned_node(state, command.node, context)
    hours = window_hours(command.window)
    if any(device.kind == "gpu" for device in node.fact.devices):
        meet_gpu_hours(founded(state).resources.minimums, command.window)
    fact = NodeWindowStated(node.node, command.window, command.authorization)
    return Decision((Emit(node.node, fact),), {"node": node.node, "hours_per_day": hours})


def label_node(command: LabelNode, state: Directory, context: Context) -> Decision:
    """Change the label. Raises UnknownNode, NodeIsRetired, NotTheOwner, InvalidField."""
    node = owned_node(state, command.node, context)
    label = plain_text(command.label, "label")
    return Decision((Emit(node.node, NodeLabelled(node.node, label)),), {"node": node.node, "label": label})
