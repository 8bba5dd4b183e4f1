"""How each epoch went: its span, what was scored, what its pool paid and kept, and on which evidence."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from events import metering, treasury
from events.catalog import Recorded
from projections.queries import Listing, Number, ViewReader
from projections.routes import Answer, Params, QueryContext, QueryRoute
from projections.store import Select
from projections.view import Change, Row, Table, View, change, json_text, put


class Epoch(Row):
    """An epoch. Metering fills the first part, the treasury the second, in whatever order they are seen.

    Amounts in base units; `totals` is JSON by sub-pool; `rate_*` is base units per micro reference-GPU-hour.
    """

    epoch: int
    start_ms: int | None = None
    end_ms: int | None = None
    closed_ms: int | None = None
    through_position: int | None = None
    pages: int | None = None
    root: str | None = None
    totals: str = "{}"
    backfill: str | None = None
    pool: int | None = None
    paid: int | None = None
    late_reserve: int | None = None
    kept: int | None = None
    rate_numerator: str | None = None
    rate_denominator: str | None = None
    gate: str | None = None
    settled_ms: int | None = None
    late_paid: int = 0
    late_released: int = 0


EPOCHS: Final = Table("epochs", Epoch, ("epoch",))


def _closed(fact: metering.EpochClosed, recorded: Recorded) -> Iterable[Change]:
    fields = {
        "start_ms": fact.start_ms,
        "end_ms": fact.end_ms,
        "closed_ms": recorded.time_ms,
        "through_position": int(fact.through_position),
        "pages": fact.pages,
        "root": fact.root,
        "totals": json_text(fact.totals),
        "backfill": fact.backfill,
    }
    yield change(EPOCHS, fact.epoch, put, fields)


def _funded(fact: treasury.EpochPoolFunded, _recorded: Recorded) -> Iterable[Change]:
    yield change(EPOCHS, fact.epoch, put, {"pool": int(fact.pool)})


def _settled(fact: treasury.EpochSettled, recorded: Recorded) -> Iterable[Change]:
    fields = {
        "pool": int(fact.pool),
        "paid": int(fact.paid),
        "late_reserve": int(fact.late_reserve),
        "kept": int(fact.kept),
        "rate_numerator": fact.rate_numerator,
        "rate_denominator": fact.rate_denominator,
        "gate": fact.gate,
        "settled_ms": recorded.time_ms,
    }
    yield change(EPOCHS, fact.epoch, put, fields)


def _add(row: Epoch, late_paid: int, late_released: int) -> None:
    row.late_paid += late_paid
    row.late_released += late_released


def _late_paid(fact: treasury.LateRewardsPaid, _recorded: Recorded) -> Iterable[Change]:
    yield change(EPOCHS, fact.epoch, _add, sum(int(posting.amount) for posting in fact.postings), 0)


def _late_released(fact: treasury.LateReserveReleased, _recorded: Recorded) -> Iterable[Change]:
    yield change(EPOCHS, fact.epoch, _add, 0, sum(int(posting.amount) for posting in fact.postings))


VIEW: Final = View(
    name="epochs",
    version=1,
    services=("metering", "treasury"),
    tables=(EPOCHS,),
    handlers={
        metering.EpochClosed: _closed,
        treasury.EpochPoolFunded: _funded,
        treasury.EpochSettled: _settled,
        treasury.LateRewardsPaid: _late_paid,
        treasury.LateReserveReleased: _late_released,
    },
)


class OneEpoch(Params):
    """One epoch by number."""

    epoch: Number


def routes(reader: ViewReader) -> tuple[QueryRoute, ...]:
    """Return the queries: the list, oldest first, and one epoch."""

    async def listed(params: Listing, context: QueryContext) -> Answer:
        return await reader.page(VIEW, Select(EPOCHS), params, context, body)

    async def one(params: OneEpoch, context: QueryContext) -> Answer:
        return await reader.one(VIEW, Select(EPOCHS, (("epoch", "=", params.epoch),)), context, body)

    path = "/v1/views/epochs"
    return (
        QueryRoute("epochs.list", path, "views.read", Listing, listed, "Epochs"),
        QueryRoute("epochs.one", f"{path}/{{epoch}}", "views.read", OneEpoch, one, "One epoch"),
    )


def status(row: Epoch) -> str:
    """Return `settled` once its pool is accounted for, else `closed`, else `funded`: what has been seen so far."""
    if row.settled_ms is not None:
        return "settled"
    return "closed" if row.closed_ms is not None else "funded"


def body(row: Epoch) -> dict[str, Any]:
    """Return an epoch as the API shows it."""
    shown: dict[str, Any] = msgspec.structs.asdict(row)
    for name in ("through_position", "pool", "paid", "late_reserve", "kept", "late_paid", "late_released"):
        shown[name] = None if shown[name] is None else str(shown[name])
    return shown | {"status": status(row), "totals": msgspec.json.decode(row.totals)}
