"""What is pooled: nodes, their devices and state, and how they did in the last epoch that named them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from events import metering, registry
from events.catalog import Recorded
from projections.queries import Listing, Name, ViewReader
from projections.routes import Answer, Params, QueryContext, QueryRoute
from projections.store import Select
from projections.view import Change, Row, Table, View, change, json_text, put


class Node(Row):
    """A node. `devices` and `suspensions` (those in force, sorted) are JSON.

    Score and reliability are those of `epoch`, the latest that scored it; `scores` is JSON by kind of resource, in
    millionths of the kind's unit-hour, `micro_rgpu_hours` that of its GPUs.
    Scores come from metering on a channel of its own, so a row may begin with them and learn its owner later.
    """

    node: str
    owner: str | None = None
    status: str | None = None
    suspensions: str = "[]"
    zone: str | None = None
    label: str = ""
    devices: str = "[]"
    cpu_milli: int = 0
    memory_mib: int = 0
    storage_bytes: int = 0
    bandwidth_bits_per_second: int = 0
    pue_milli: int | None = None
    window_from_hour: int = 0
    window_to_hour: int = 24
    kid: str | None = None
    registered_ms: int | None = None
    epoch: int | None = None
    micro_rgpu_hours: int | None = None
    scores: str = "{}"
    reliability_ppm: int | None = None


NODES: Final = Table("nodes", Node, ("node",), indexes=(("owner", "node"), ("status", "node")))


def _registered(fact: registry.NodeRegistered, recorded: Recorded) -> Iterable[Change]:
    fields = {
        "owner": fact.owner,
        "status": "registered",
        "zone": fact.zone,
        "label": fact.label,
        "devices": json_text(fact.devices),
        "cpu_milli": fact.cpu_milli,
        "memory_mib": fact.memory_mib,
        "storage_bytes": fact.storage_bytes,
        "bandwidth_bits_per_second": fact.bandwidth_bits_per_second,
        "pue_milli": fact.pue_milli,
        "window_from_hour": fact.window.from_hour,
        "window_to_hour": fact.window.to_hour,
        "kid": fact.key.kid,
        "registered_ms": recorded.time_ms,
    }
    yield change(NODES, fact.node, put, fields)


def _verify(row: Node) -> None:
    row.status = "suspended" if row.suspensions != "[]" else "verified"


def _suspend(row: Node, suspension: str) -> None:
    row.status = "suspended"
    row.suspensions = json_text(sorted({*msgspec.json.decode(row.suspensions), suspension}))


def _reinstate(row: Node, suspension: str, status: str) -> None:
    row.status = status
    row.suspensions = json_text(sorted({*msgspec.json.decode(row.suspensions)} - {suspension}))


def _verified(fact: registry.NodeVerified, _recorded: Recorded) -> Iterable[Change]:
    yield change(NODES, fact.node, _verify)


def _activated(fact: registry.NodeActivated, _recorded: Recorded) -> Iterable[Change]:
    yield change(NODES, fact.node, put, {"status": "active"})


def _suspended(fact: registry.NodeSuspended, _recorded: Recorded) -> Iterable[Change]:
    yield change(NODES, fact.node, _suspend, suspension_of(fact))


def _reinstated(fact: registry.NodeReinstated, _recorded: Recorded) -> Iterable[Change]:
    yield change(NODES, fact.node, _reinstate, suspension_of(fact), fact.status)


def _retired(fact: registry.NodeRetired, _recorded: Recorded) -> Iterable[Change]:
    yield change(NODES, fact.node, put, {"status": "retired", "suspensions": "[]"})


def suspension_of(fact: registry.NodeSuspended | registry.NodeReinstated) -> str:
    """Return the name of one suspension: its cause, and the device where one is in dispute."""
    return f"{fact.cause} {fact.device}" if fact.device else fact.cause


def _labelled(fact: registry.NodeLabelled, _recorded: Recorded) -> Iterable[Change]:
    yield change(NODES, fact.node, put, {"label": fact.label})


def _window(fact: registry.NodeWindowStated, _recorded: Recorded) -> Iterable[Change]:
    fields = {"window_from_hour": fact.window.from_hour, "window_to_hour": fact.window.to_hour}
    yield change(NODES, fact.node, put, fields)


def _rotated(fact: registry.KeyRotated, _recorded: Recorded) -> Iterable[Change]:
    if fact.subject.startswith("node/"):
        yield change(NODES, fact.subject, put, {"kid": fact.key.kid})


def _score(row: Node, epoch: int, kind: str, score: str, reliability_ppm: int | None) -> None:
    if row.epoch is not None and epoch < row.epoch:
        return  # epochs are streams of their own: an older one may come later
    if row.epoch != epoch:
        row.epoch, row.micro_rgpu_hours, row.scores, row.reliability_ppm = epoch, None, "{}", None
    row.scores = json_text({**msgspec.json.decode(row.scores), kind: score})
    row.micro_rgpu_hours = int(score) if kind == "gpu" else row.micro_rgpu_hours
    row.reliability_ppm = min((ppm for ppm in (row.reliability_ppm, reliability_ppm) if ppm is not None), default=None)


def _scored(fact: metering.EpochPaged, _recorded: Recorded) -> Iterable[Change]:
    for node in fact.nodes:
        lowest = min((device.reliability_ppm for device in node.devices), default=None)
        yield change(NODES, node.node, _score, fact.epoch, fact.kind or "gpu", node.micro_rgpu_hours, lowest)


VIEW: Final = View(
    name="nodes",
    version=2,
    services=("registry", "metering"),
    tables=(NODES,),
    handlers={
        registry.NodeRegistered: _registered,
        registry.NodeVerified: _verified,
        registry.NodeActivated: _activated,
        registry.NodeSuspended: _suspended,
        registry.NodeReinstated: _reinstated,
        registry.NodeRetired: _retired,
        registry.NodeLabelled: _labelled,
        registry.NodeWindowStated: _window,
        registry.KeyRotated: _rotated,
        metering.EpochPaged: _scored,
    },
)


class Nodes(Listing):
    """All nodes, those of one owner, or those in one state."""

    owner: Name | None = None
    status: Name | None = None


class OneNode(Params):
    """One node by id."""

    node: Name


def routes(reader: ViewReader) -> tuple[QueryRoute, ...]:
    """Return the queries: the list and one node."""

    async def listed(params: Nodes, context: QueryContext) -> Answer:
        wanted = {"owner": params.owner, "status": params.status}
        where: Any = tuple((column, "=", value) for column, value in wanted.items() if value is not None)
        return await reader.page(VIEW, Select(NODES, where), params, context, body)

    async def one(params: OneNode, context: QueryContext) -> Answer:
        return await reader.one(VIEW, Select(NODES, (("node", "=", params.node),)), context, body)

    path = "/v1/views/nodes"
    return (
        QueryRoute("nodes.list", path, "views.read", Nodes, listed, "Nodes"),
        QueryRoute("nodes.one", f"{path}/{{node:path}}", "views.read", OneNode, one, "One node"),
    )


def body(row: Node) -> dict[str, Any]:
    """Return a node as the API shows it."""
    shown: dict[str, Any] = msgspec.structs.asdict(row)
    shown["devices"] = msgspec.json.decode(row.devices)
    shown["scores"] = msgspec.json.decode(row.scores)
    shown["suspensions"] = msgspec.json.decode(row.suspensions)
    shown["window"] = {"from_hour": shown.pop("window_from_hour"), "to_hour": shown.pop("window_to_hour")}
    shown["micro_rgpu_hours"] = None if row.micro_rgpu_hours is None else str(row.micro_rgpu_hours)
    return shown
