"""The queries of the usage view. `share_milli_ms` becomes milli-GPU-seconds here, once, at the edge (METERING)."""

from __future__ import annotations

from typing import Any

import msgspec

from events.values import verified_milli_gpu_seconds
from projections.queries import Listing, Name, Number, ViewReader
from projections.routes import Answer, Params, QueryContext, QueryRoute
from projections.store import Select
from projections.usage import ALL, COUNTED, DAYS, EPOCHS, LEASES, TOTALS, VIEW, Counted, EpochCounted, Lease, Total


class Days(Listing):
    """All days, or those of one node."""

    node: Name | None = None


class Leases(Listing):
    """All leases, or those of a project, a node or an owner; with `ending_after_ms` those that end after it."""

    project: Name | None = None
    node: Name | None = None
    owner: Name | None = None
    ending_after_ms: Number | None = None


class OneLease(Params):
    """One lease by id."""

    lease: Name


class CountedBy(Listing):
    """All counts, or those of a node, an epoch or a kind."""

    node: Name | None = None
    epoch: Number | None = None
    kind: Name | None = None


def routes(reader: ViewReader) -> tuple[QueryRoute, ...]:
    """Return the queries: readings by day, leases, counted usage by epoch and node, totals."""

    async def days(params: Days, context: QueryContext) -> Answer:
        return await reader.page(VIEW, Select(DAYS, given(node=params.node)), params, context, msgspec.structs.asdict)

    async def leases(params: Leases, context: QueryContext) -> Answer:
        where = given(project=params.project, node=params.node, owner=params.owner)
        if params.ending_after_ms is not None:
            where = (*where, ("end_ms", ">", params.ending_after_ms))
        return await reader.page(VIEW, Select(LEASES, where), params, context, lease_body)

    async def lease(params: OneLease, context: QueryContext) -> Answer:
        return await reader.one(VIEW, Select(LEASES, given(lease=params.lease)), context, lease_body)

    async def counted(params: CountedBy, context: QueryContext) -> Answer:
        where = given(node=params.node, epoch=params.epoch, kind=params.kind)
        return await reader.page(VIEW, Select(COUNTED, where), params, context, counted_body)

    async def epochs(params: Listing, context: QueryContext) -> Answer:
        return await reader.page(VIEW, Select(EPOCHS), params, context, counted_body)

    async def total(_params: Params, context: QueryContext) -> Answer:
        async with reader.moment(VIEW, context) as moment:
            rows = await moment.snapshot.select(Select(TOTALS))
        return Answer(counted_body(rows[0] if rows else Total(ALL)), moment.positions)

    path = "/v1/views/usage"
    return (
        QueryRoute("usage.days", path, "views.read", Days, days, "Readings by node and day"),
        QueryRoute("usage.total", f"{path}/total", "views.read", Params, total, "Everything counted so far"),
        QueryRoute("usage.epochs", f"{path}/epochs", "views.read", Listing, epochs, "Counted usage by epoch"),
        QueryRoute("usage.counted", f"{path}/counted", "views.read", CountedBy, counted, "Counted usage by node"),
        QueryRoute("usage.leases", f"{path}/leases", "views.read", Leases, leases, "Leases"),
        QueryRoute("usage.lease", f"{path}/leases/{{lease:path}}", "views.read", OneLease, lease, "One lease"),
    )


def given(**wanted: Any) -> Any:
    """Return an equality for each parameter that was given."""
    return tuple((column, "=", value) for column, value in wanted.items() if value is not None)


def lease_body(row: Lease) -> dict[str, Any]:
    """Return a lease as the API shows it."""
    shown: dict[str, Any] = msgspec.structs.asdict(row)
    devices = [{"device": device, "model": model} for device, model in msgspec.json.decode(row.devices)]
    return shown | {"devices": devices, "charged": str(row.charged), "refunded": str(row.refunded)}


def counted_body(row: Counted | EpochCounted | Total) -> dict[str, Any]:
    """Return counted usage as the API shows it; of GPUs with whole milli-GPU-seconds."""
    shown: dict[str, Any] = msgspec.structs.asdict(row)
    shown |= {"share_milli_ms": str(row.share_milli_ms), "late_milli_ms": str(row.late_milli_ms)}
    if isinstance(row, Total) or row.kind == "gpu":
        counted = row.share_milli_ms + row.late_milli_ms
        shown["verified_milli_gpu_seconds"] = str(verified_milli_gpu_seconds(counted))
    return shown
