"""Nodes taken over from the registry, their hours of heartbeats, and their maintenance."""

from __future__ import annotations

from collections.abc import Iterable

from events.genesis import maintenance_hours
from events.metering import HeartbeatHourRecorded, MaintenanceAnnounced, NodeAdopted
from events.spool import MINUTES, minutes_text
from events.values import HOUR_MS
from services.kernel.decider import Context, Decision, Emit
from services.kernel.directory import Node
from services.kernel.errors import InvalidField
from services.metering.availability import CAP_HOURS
from services.metering.commands import AdoptNode, AnnounceMaintenance, RecordHeartbeatHour
from services.metering.errors import (
    HeartbeatHourKnown,
    HeartbeatHourOutOfTime,
    MaintenanceCapReached,
    MaintenanceTooLate,
    NotAdopted,
    NotNodeOwner,
    NotThisNode,
    UnknownNode,
)
from services.metering.state import Metering, mapped


def adopt_node(command: AdoptNode, state: Metering, context: Context) -> Decision:
    """Take over a node once it is active, a window it states later, and its retirement; else nothing.

    A first window holds from the next full hour on, another one an hour later still, so that nobody narrows it when
    trouble is there already. Raises NotAdopted before genesis.
    """
    if state.rules is None:
        raise NotAdopted("genesis comes first")
    node = context.directory.nodes.get(command.node)
    rules = state.rules.rules
    if node is None or not (rules.availability_trials or rules.carbon_factors):
        return Decision()
    known = state.stated.get(command.node)
    last = known[-1] if known else None
    next_hour = -(-command.since_ms // HOUR_MS)
    if node.status == "retired":
        window, from_hour = None, command.since_ms // HOUR_MS
    elif last is None and node.standing != "active":
        return Decision()
    else:
        window, from_hour = node.window, next_hour if last is None else next_hour + 1
    if last is None and window is None:
        return Decision()
    if last is not None and last.window == window:
        return Decision()
    devices = tuple(device.device for device in node.fact.devices)
    terms = (node.fact.zone, node.fact.pue_milli, node.fact.embodied)
    fact = NodeAdopted(node.node, node.owner, devices, window, from_hour, *terms)
    return Decision([Emit(node.node, fact)])


def record_heartbeat_hour(command: RecordHeartbeatHour, state: Metering, context: Context) -> Decision:
    """Record an hour's heartbeats within an hour of its end; nothing when the same is recorded already."""
    if context.actor != command.node:
        raise NotThisNode("a node records its own heartbeats", node=command.node)
    node = _node(command.node, context)
    if not 0 <= command.signed_minutes < 1 << MINUTES:
        raise InvalidField("an hour's map has 60 bits", field="minutes")
    minutes = command.signed_minutes & command.answered_minutes
    answer = {"node": command.node, "hour": command.hour, "minutes": minutes_text(minutes)}
    known = mapped(state.hours, command.node).get(command.hour)
    if known is not None:
        if known.spool_sha256 != command.spool_sha256:
            raise HeartbeatHourKnown("the hour is recorded with another hash", hour=command.hour)
        return Decision(answer={**answer, "minutes": minutes_text(known.minutes)})
    over_ms = (command.hour + 1) * HOUR_MS
    if not over_ms <= context.time_ms < over_ms + HOUR_MS:
        raise HeartbeatHourOutOfTime("an hour is recorded within one hour of its end", hour=command.hour)
    fact = HeartbeatHourRecorded(
        command.node, node.owner, command.hour, minutes_text(minutes), command.spool_sha256, command.jws
    )
    return Decision([Emit(command.node, fact)], answer)


def announce_maintenance(command: AnnounceMaintenance, state: Metering, context: Context) -> Decision:
    """Announce hours of one's node, an hour ahead and within the cap of every 30 days they fall in."""
    if state.rules is None:
        raise NotAdopted("genesis comes first")
    node = _node(command.node, context)
    if context.actor != node.owner:
        raise NotNodeOwner("only a node's owner announces its maintenance", node=node.node)
    limit = maintenance_hours(state.rules.rules)
    if command.hours < 1:
        raise InvalidField("maintenance lasts at least an hour", field="hours")
    if (command.first_hour - 1) * HOUR_MS < context.time_ms:
        raise MaintenanceTooLate("maintenance is announced an hour ahead", first_hour=command.first_hour)
    if command.hours > limit:
        raise MaintenanceCapReached("more hours than the rules allow", limit=limit)
    announced = range(command.first_hour, command.first_hour + command.hours)
    hours = state.maintenance.get(node.node, frozenset()).union(announced)
    if _most_in_span(hours) > limit:
        raise MaintenanceCapReached("more hours in 30 days than the rules allow", limit=limit)
    fact = MaintenanceAnnounced(node.node, command.first_hour, command.hours, command.authorization)
    return Decision([Emit(node.node, fact)], {"node": node.node, "first_hour": command.first_hour})


def _most_in_span(hours: Iterable[int]) -> int:
    """Return the most hours that lie in any 30 days."""
    ordered = sorted(hours)
    return max(sum(hour - CAP_HOURS < other <= hour for other in ordered) for hour in ordered)


def _node(name: str, context: Context) -> Node:
    node = context.directory.nodes.get(name)
    if node is None or node.status == "retired":
        raise UnknownNode("the registry knows no such node", node=name)
    return node
