"""Routes of disputes about usage; both take the actor's own signature into the fact."""

from __future__ import annotations

from typing import Annotated, Literal

import pydantic

from services.kernel.routes import Body, Caller, CommandRoute, Route
from services.metering.api import signed_by
from services.metering.commands import DisputeUsage, EndDispute

Reference = Annotated[str, pydantic.Field(pattern=r"^[a-z]+/[0-9a-f]{32}$", examples=["node/" + "0" * 32])]


class DisputeBody(Body):
    """What is disputed: a node and 1..35 epochs of it in order, and why."""

    node: Reference
    epochs: Annotated[
        tuple[Annotated[int, pydantic.Field(ge=0, lt=2**31)], ...],
        pydantic.Field(strict=False, min_length=1, max_length=35),
    ]
    reason: Annotated[str, pydantic.Field(min_length=1, max_length=1_000)]


class RulingBody(Body):
    """How a dispute ends: `upheld` forfeits what is still held, `dismissed` lets it be released."""

    dispute: Reference
    ruling: Literal["upheld", "dismissed"]


def _dispute(body: DisputeBody, caller: Caller) -> DisputeUsage:
    return DisputeUsage(body.node, body.epochs, body.reason, signed_by(caller))


def _end(body: RulingBody, caller: Caller) -> EndDispute:
    return EndDispute(body.dispute, body.ruling, signed_by(caller))


def dispute_routes() -> tuple[Route, ...]:
    """Return the routes by which disputes begin and end."""
    return (
        CommandRoute(
            "DisputeUsage",
            "/v1/metering/disputes",
            "usage.dispute",
            DisputeBody,
            _dispute,
            own_signature=True,
            summary="Dispute what a node did in epochs; its holdback waits",
        ),
        CommandRoute(
            "EndDispute",
            "/v1/metering/dispute-rulings",
            "disputes.end",
            RulingBody,
            _end,
            own_signature=True,
            summary="Rule on a dispute about usage",
        ),
    )
