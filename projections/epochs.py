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

    Amounts in base units; `totals` is JSON by kind of resource, and so is `pools`: how the pool of each kind was shared
    out, of which the amounts are the sums. `rate_*` is base units per micro reference-GPU-hour, that of GPUs.
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
    pools: str = "{}"
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
    yield change(EPOCHS, fact.epoch, _share, fact.kind or "gpu", {"pool": fact.pool})


def _share(row: Epoch, kind: str, fields: dict[str, str]) -> None:
    """Note what a kind's pool came to; an epoch's amounts are the sums of those of its kinds."""
    pools = msgspec.json.decode(row.pools)
    pools[kind] = pools.get(kind, {}) | fields
    row.pools = json_text(pools)
    row.pool = sum(int(one["pool"]) for one in pools.values())
    settled = [one for one in pools.values() if "paid" in one]
    for name in ("paid", "late_reserve", "kept") if settled else ():
        setattr(row, name, sum(int(one[name]) for one in settled))
    if kind == "gpu" and "rate_numerator" in fields:
        row.rate_numerator, row.rate_denominator = fields["rate_numerator"], fields["rate_denominator"]


def _settled(fact: treasury.EpochSettled, recorded: Recorded) -> Iterable[Change]:
    names = ("pool", "paid", "late_reserve", "kept", "rate_numerator", "rate_denominator")
    shares = {name: getattr(fact, name) for name in names}
    yield change(EPOCHS, fact.epoch, _share, fact.kind or "gpu", shares)
    yield change(EPOCHS, fact.epoch, put, {"gate": fact.gate, "settled_ms": recorded.time_ms})


def _add(row: Epoch, late_paid: int, late_released: int) -> None:
    row.late_paid += late_paid
    row.late_released += late_released


def _late_paid(fact: treasury.LateRewardsPaid, _recorded: Recorded) -> Iterable[Change]:
    # What is held or forfeited of it has postings of its own, from the late reserve too.
    yield change(EPOCHS, fact.epoch, _add, sum(int(posting.amount) for posting in fact.postings), 0)


def _late_released(fact: treasury.LateReserveReleased, _recorded: Recorded) -> Iterable[Change]:
    yield change(EPOCHS, fact.epoch, _add, 0, sum(int(posting.amount) for posting in fact.postings))


VIEW: Final = View(
    name="epochs",
    version=2,
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
    """Return `settled` once all its pools are accounted for, else `closed`, else `funded`: what was seen so far."""
    pools, totals = msgspec.json.decode(row.pools), msgspec.json.decode(row.totals)
    # GPUs have totals even where they have no sub-pool.
    waiting = [kind for kind, total in totals.items() if kind not in pools and (kind != "gpu" or total["nodes"])]
    if row.settled_ms is not None and not waiting and all("paid" in one for one in pools.values()):
        return "settled"
    return "closed" if row.closed_ms is not None else "funded"


def body(row: Epoch) -> dict[str, Any]:
    """Return an epoch as the API shows it."""
    shown: dict[str, Any] = msgspec.structs.asdict(row)
    for name in ("through_position", "pool", "paid", "late_reserve", "kept", "late_paid", "late_released"):
        shown[name] = None if shown[name] is None else str(shown[name])
    decoded = {"totals": msgspec.json.decode(row.totals), "pools": msgspec.json.decode(row.pools)}
    return shown | {"status": status(row)} | decoded
