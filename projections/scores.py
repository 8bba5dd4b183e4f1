"""Why someone was paid what they were: each node's score in each epoch, its devices' factors, and the reward."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from events import metering, treasury
from events.catalog import Recorded
from projections.queries import Listing, Name, Number, ViewReader
from projections.routes import Answer, QueryContext, QueryRoute
from projections.store import Select
from projections.view import Change, Row, Table, View, change, json_text, put


class Score(Row):
    """A node's resources of one kind in an epoch. Its three columns are never mixed: `allocated` earns.

    `micro_rgpu_hours` are millionths of the kind's unit-hour. `devices` is JSON, `[device, work_class, share_milli_ms,
    pf, r_ppm]` each. Rewards are base units: `reward` and `late_reward` are paid, `held` waits, `forfeited` is lost;
    `released` of `reward` had waited.
    """

    epoch: int
    node: str
    kind: str
    owner: str | None = None
    micro_rgpu_hours: int | None = None
    offered_milli_ms: int = 0
    allocated_milli_ms: int = 0
    utilised_milli_ms: int = 0
    devices: str = "[]"
    reward: int = 0
    late_reward: int = 0
    held: int = 0
    released: int = 0
    forfeited: int = 0


class LateScore(Row):
    """Usage of a closed epoch that was recorded in time but scored in a later one."""

    epoch: int
    node: str
    scored_in: int
    kind: str
    owner: str | None = None
    micro_rgpu_hours: int = 0
    allocated_milli_ms: int = 0
    devices: str = "[]"


SCORES: Final = Table(
    "scores",
    Score,
    ("epoch", "node", "kind"),
    indexes=(("node", "epoch", "kind"), ("owner", "epoch", "node", "kind")),
)
LATE: Final = Table("late", LateScore, ("epoch", "node", "scored_in", "kind"))


def _paged(fact: metering.EpochPaged, _recorded: Recorded) -> Iterable[Change]:
    for node in fact.nodes:
        fields = {
            "owner": node.owner,
            "micro_rgpu_hours": int(node.micro_rgpu_hours),
            "offered_milli_ms": int(node.offered_milli_ms),
            "allocated_milli_ms": int(node.allocated_milli_ms),
            "utilised_milli_ms": int(node.utilised_milli_ms),
            "devices": json_text(node.devices),
        }
        yield change(SCORES, (fact.epoch, node.node, fact.kind or "gpu"), put, fields)


def _late(fact: metering.LateUsageScored, _recorded: Recorded) -> Iterable[Change]:
    for node in fact.nodes:
        yield change(LATE, (fact.epoch, node.node, fact.scored_in, fact.kind or "gpu"), _add_late, node)


def _add_late(row: LateScore, node: metering.NodeScore) -> None:
    row.owner = node.owner
    row.micro_rgpu_hours += int(node.micro_rgpu_hours)
    row.allocated_milli_ms += int(node.allocated_milli_ms)
    row.devices = json_text([*msgspec.json.decode(row.devices), *node.devices])


def _add(row: Score, reward: int, late_reward: int, held: int, forfeited: int) -> None:
    row.reward += reward
    row.late_reward += late_reward
    row.held += held
    row.forfeited += forfeited


def _paid(fact: treasury.RewardsPaid, _recorded: Recorded) -> Iterable[Change]:
    for node, posting in zip(fact.nodes, fact.postings, strict=False):  # one posting more brings what is held away
        yield change(SCORES, (fact.epoch, node, fact.kind or "gpu"), _add, int(posting.amount), 0, 0, 0)
    for held in fact.held or ():
        yield change(SCORES, (fact.epoch, held.node, fact.kind or "gpu"), _add, 0, 0, int(held.amount), 0)


def _late_paid(fact: treasury.LateRewardsPaid, _recorded: Recorded) -> Iterable[Change]:
    kind = fact.kind or "gpu"
    for node, posting in zip(fact.nodes, fact.postings, strict=False):
        yield change(SCORES, (fact.epoch, node, kind), _add, 0, int(posting.amount), 0, 0)
    for held in fact.held or ():
        yield change(SCORES, (fact.epoch, held.node, kind), _add, 0, 0, int(held.amount), 0)
    for lost in fact.forfeited or ():
        yield change(SCORES, (fact.epoch, lost.node, kind), _add, 0, 0, 0, int(lost.amount))


def _released(fact: treasury.HoldbackPaid, _recorded: Recorded) -> Iterable[Change]:
    for reward in fact.rewards:
        yield change(SCORES, (fact.epoch, reward.node, fact.kind), _let_go, int(reward.amount))


def _let_go(row: Score, amount: int) -> None:
    row.reward += amount
    row.released += amount
    row.held -= amount


def _forfeited(fact: treasury.HoldbackForfeitBooked, _recorded: Recorded) -> Iterable[Change]:
    for reward in fact.rewards:
        amount = int(reward.amount)
        yield change(SCORES, (fact.epoch, reward.node, fact.kind), _add, 0, 0, -amount, amount)


VIEW: Final = View(
    name="scores",
    version=2,
    services=("metering", "treasury"),
    tables=(SCORES, LATE),
    handlers={
        metering.EpochPaged: _paged,
        metering.LateUsageScored: _late,
        treasury.RewardsPaid: _paid,
        treasury.LateRewardsPaid: _late_paid,
        treasury.HoldbackPaid: _released,
        treasury.HoldbackForfeitBooked: _forfeited,
    },
)


class Scores(Listing):
    """All scores, or those of an epoch, a node, an owner or a kind."""

    epoch: Number | None = None
    node: Name | None = None
    owner: Name | None = None
    kind: Name | None = None


def routes(reader: ViewReader) -> tuple[QueryRoute, ...]:
    """Return the queries: scores by epoch, node or owner, and late scores."""

    def conditions(params: Scores) -> Any:
        wanted = {"epoch": params.epoch, "node": params.node, "owner": params.owner, "kind": params.kind}
        return tuple((column, "=", value) for column, value in wanted.items() if value is not None)

    async def listed(params: Scores, context: QueryContext) -> Answer:
        return await reader.page(VIEW, Select(SCORES, conditions(params)), params, context, body)

    async def late(params: Scores, context: QueryContext) -> Answer:
        return await reader.page(VIEW, Select(LATE, conditions(params)), params, context, late_body)

    path = "/v1/views/scores"
    return (
        QueryRoute("scores.list", path, "views.read", Scores, listed, "Scores by epoch and node"),
        QueryRoute("scores.late", f"{path}/late", "views.read", Scores, late, "Late usage, scored afterwards"),
    )


def _explained(devices: str) -> list[dict[str, Any]]:
    names = ("device", "work_class", "share_milli_ms", "performance_factor", "reliability_ppm")
    return [dict(zip(names, device, strict=True)) for device in msgspec.json.decode(devices)]


def body(row: Score) -> dict[str, Any]:
    """Return a score as the API shows it."""
    shown: dict[str, Any] = msgspec.structs.asdict(row)
    for name in ("offered_milli_ms", "allocated_milli_ms", "utilised_milli_ms"):
        shown[name] = str(shown[name])
    for name in ("reward", "late_reward", "held", "released", "forfeited"):
        shown[name] = str(shown[name])
    shown["micro_rgpu_hours"] = None if row.micro_rgpu_hours is None else str(row.micro_rgpu_hours)
    return shown | {"devices": _explained(row.devices)}


def late_body(row: LateScore) -> dict[str, Any]:
    """Return a late score as the API shows it."""
    shown: dict[str, Any] = msgspec.structs.asdict(row)
    shown["micro_rgpu_hours"] = str(row.micro_rgpu_hours)
    shown["allocated_milli_ms"] = str(row.allocated_milli_ms)
    return shown | {"devices": _explained(row.devices)}
