"""What was used: readings as they came in, by node and day; leases; and what epochs counted.

Counting readings against each other is metering's rule and is not repeated here: counted share x time is what the
pages of closed epochs say. Its queries stand in `usage_queries.py`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from events import metering
from events.catalog import Recorded
from events.values import DAY_MS
from projections.view import Change, Row, Table, View, change, json_text, put


class Day(Row):
    """Readings of a node on one UTC day (`day` = whole days since 1970) by the side they came from.

    A reading belongs to the day it starts on; a batch, with what was rejected, late or in conflict in it, to the day
    of its first reading that was not rejected.
    """

    node: str
    day: int
    side: str
    batches: int = 0
    readings: int = 0
    rejected: int = 0
    late: int = 0
    conflicts: int = 0
    first_ms: int | None = None
    last_ms: int | None = None


class Lease(Row):
    """A lease as it was opened, and when it was cancelled. `devices` is JSON."""

    lease: str
    project: str | None = None
    consumer: str | None = None
    kind: str | None = None
    node: str | None = None
    owner: str | None = None
    devices: str = "[]"
    share: int = 0
    start_ms: int | None = None
    end_ms: int | None = None
    work_class: str | None = None
    charged: int = 0
    linked: str | None = None
    backfill: str | None = None
    renews: str | None = None
    content_root: str | None = None
    content_bytes: int | None = None
    cancelled_ms: int | None = None
    refunded: int = 0


class Counted(Row):
    """Share x time (level x ms) of a kind that epochs counted for a node; `late_*` came after the epoch's close."""

    epoch: int
    node: str
    kind: str
    share_milli_ms: int = 0
    late_milli_ms: int = 0


class EpochCounted(Row):
    """The same for a whole epoch."""

    epoch: int
    kind: str
    share_milli_ms: int = 0
    late_milli_ms: int = 0


class Total(Row):
    """Everything so far: counted share x time of GPUs, readings, batches, leases of all kinds."""

    scope: str
    share_milli_ms: int = 0
    late_milli_ms: int = 0
    batches: int = 0
    readings: int = 0
    leases: int = 0


DAYS: Final = Table("days", Day, ("node", "day", "side"))
LEASES: Final = Table(
    "leases", Lease, ("lease",), indexes=(("project", "lease"), ("node", "lease"), ("owner", "lease"))
)
COUNTED: Final = Table("counted", Counted, ("epoch", "node", "kind"), indexes=(("node", "epoch", "kind"),))
EPOCHS: Final = Table("epochs", EpochCounted, ("epoch", "kind"))
TOTALS: Final = Table("totals", Total, ("scope",))
ALL: Final = "all"


class _Payload(msgspec.Struct):
    """The part of a batch's payload that is read here; a rejected reading may hold anything."""

    readings: list[Any]


_PAYLOAD: Final = msgspec.json.Decoder(_Payload)


def _span(row: Day, readings: int, first_ms: int, last_ms: int) -> None:
    row.readings += readings
    row.first_ms = first_ms if row.first_ms is None else min(row.first_ms, first_ms)
    row.last_ms = last_ms if row.last_ms is None else max(row.last_ms, last_ms)


def _batch(row: Day, rejected: int, late: int, conflicts: int) -> None:
    row.batches += 1
    row.rejected += rejected
    row.late += late
    row.conflicts += conflicts


def _total_counts(row: Total, batches: int, readings: int, leases: int) -> None:
    row.batches += batches
    row.readings += readings
    row.leases += leases


def _recorded(fact: metering.ReadingsRecorded, recorded: Recorded) -> Iterable[Change]:
    rejected = {index for indexes in (fact.rejected or {}).values() for index in indexes}
    days: dict[int, list[int]] = {}
    first_day: int | None = None
    for index, reading in enumerate(payload_of(fact.jws).readings):
        if index in rejected:
            continue
        start, end = reading[2], reading[3]
        day = start // DAY_MS
        first_day = day if first_day is None else first_day
        found = days.get(day)
        if found is None:
            days[day] = [1, start, end]
        else:
            found[0] += 1
            found[1] = min(found[1], start)
            found[2] = max(found[2], end)
    for day, (readings, first_ms, last_ms) in days.items():
        yield change(DAYS, (fact.node, day, fact.side), _span, readings, first_ms, last_ms)
    day = recorded.time_ms // DAY_MS if first_day is None else first_day
    yield change(DAYS, (fact.node, day, fact.side), _batch, len(rejected), len(fact.late), len(fact.conflicts))
    yield change(TOTALS, ALL, _total_counts, 1, fact.readings - len(rejected), 0)


def payload_of(jws: str) -> _Payload:
    """Return the payload of a compact JWS that metering has verified."""
    text = jws.split(".")[1]
    return _PAYLOAD.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def _opened(fact: metering.LeasesOpened, _recorded: Recorded) -> Iterable[Change]:
    for lease in fact.leases:
        fields = {
            "project": fact.project,
            "consumer": fact.consumer,
            "kind": lease.kind,
            "node": lease.node,
            "owner": lease.owner,
            "devices": json_text(lease.devices),
            "share": lease.share,
            "start_ms": lease.start_ms,
            "end_ms": lease.end_ms,
            "work_class": lease.work_class,
            "charged": int(lease.charged),
            "linked": lease.linked,
            "backfill": lease.backfill,
            "renews": lease.renews,
            "content_root": lease.content.root if lease.content else None,
            "content_bytes": lease.content.bytes if lease.content else None,
        }
        yield change(LEASES, lease.lease, put, fields)
    yield change(TOTALS, ALL, _total_counts, 0, 0, len(fact.leases))


def _cancelled(fact: metering.LeaseCancelled, _recorded: Recorded) -> Iterable[Change]:
    yield change(LEASES, fact.lease, put, {"cancelled_ms": fact.at_ms, "refunded": int(fact.refunded)})


def _count(row: Counted | EpochCounted | Total, share_milli_ms: int, late_milli_ms: int) -> None:
    row.share_milli_ms += share_milli_ms
    row.late_milli_ms += late_milli_ms


def _paged(fact: metering.EpochPaged, _recorded: Recorded) -> Iterable[Change]:
    for node in fact.nodes:
        yield from _counted(fact.epoch, fact.kind or "gpu", node, late=False)


def _counted(epoch: int, kind: str, node: metering.NodeScore, *, late: bool) -> Iterable[Change]:
    share = sum(int(device.share_milli_ms) for device in node.devices)
    amounts = (0, share) if late else (share, 0)
    yield change(COUNTED, (epoch, node.node, kind), _count, *amounts)
    yield change(EPOCHS, (epoch, kind), _count, *amounts)
    if kind == "gpu":
        yield change(TOTALS, ALL, _count, *amounts)


def _late(fact: metering.LateUsageScored, _recorded: Recorded) -> Iterable[Change]:
    for node in fact.nodes:
        yield from _counted(fact.epoch, fact.kind or "gpu", node, late=True)


VIEW: Final = View(
    name="usage",
    version=2,
    services=("metering",),
    tables=(DAYS, LEASES, COUNTED, EPOCHS, TOTALS),
    handlers={
        metering.ReadingsRecorded: _recorded,
        metering.LeasesOpened: _opened,
        metering.LeaseCancelled: _cancelled,
        metering.EpochPaged: _paged,
        metering.LateUsageScored: _late,
    },
)
