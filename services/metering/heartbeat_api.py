"""Routes of heartbeats: they need the port that keeps them and the key that signs receipts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
import pydantic

from events.envelope import time_text
from services.kernel.acks import Acknowledger
from services.kernel.errors import AuthenticationFailed, InvalidField, MalformedRequest
from services.kernel.jws import sign_jws
from services.kernel.routes import Body, Caller, CommandRoute, Route, WorkingRoute
from services.kernel.strict_json import parse_json
from services.metering.api import MAX_JWS, signed_by, verified
from services.metering.commands import AnnounceMaintenance, RecordHeartbeatHour
from services.metering.heartbeats import Heartbeats, check_minute

Count = Annotated[int, pydantic.Field(ge=0, lt=2**31)]


class HeartbeatBody(Body):
    """The minute (since 1970) and the running hash (hex) of the calling node's spool of this hour."""

    minute: Count
    spool_sha256: Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$")]


class HeartbeatHourBody(Body):
    """The node's compact JWS over `{"node","hour","minutes","spool_sha256","genesis"}` (docs/spool.md)."""

    jws: Annotated[str, pydantic.Field(max_length=MAX_JWS)]


class MaintenanceBody(Body):
    """Whole hours (since 1970) in which a node may be silent."""

    node: Annotated[str, pydantic.Field(pattern=r"^node/[0-9a-f]{32}$")]
    first_hour: Count
    hours: Annotated[int, pydantic.Field(ge=1, lt=2**31)]


class Receipt(msgspec.Struct, frozen=True):
    """What the instance signs for a heartbeat; `spool_sha256` is the hash of the minute's first one."""

    node: str
    minute: int
    spool_sha256: str
    time: str


class HeartbeatHourPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node signs for its hour; `minutes` is the map of 60 bits as 15 hex digits."""

    node: str
    hour: Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
    minutes: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{15}$")]
    spool_sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    genesis: str


def heartbeat_routes(
    heartbeats: Heartbeats, acknowledger: Acknowledger, now_ms: Callable[[], int]
) -> tuple[Route, ...]:
    """Return the routes of heartbeats over their port; receipts are signed by the instance's acknowledgement key."""

    async def note(body: HeartbeatBody, caller: Caller) -> Mapping[str, Any]:
        time = now_ms()
        check_minute(body.minute, time)
        stands = await heartbeats.note(caller.actor, body.minute, body.spool_sha256)
        receipt = Receipt(caller.actor, body.minute, stands, time_text(time * 1_000))
        return {"receipt": sign_jws(acknowledger.private, acknowledger.kid, msgspec.json.encode(receipt))}

    async def record(body: HeartbeatHourBody, caller: Caller) -> RecordHeartbeatHour:
        payload = read_hour(body.jws, caller)
        answered = await heartbeats.minutes(caller.actor, payload.hour)
        return RecordHeartbeatHour(
            payload.node, payload.hour, int(payload.minutes, 16), answered, payload.spool_sha256, body.jws
        )

    return (
        WorkingRoute(
            "NoteHeartbeat",
            "/v1/metering/heartbeats",
            "readings.record",
            HeartbeatBody,
            note,
            "Note a heartbeat of this minute; the answer is a signed receipt",
        ),
        CommandRoute(
            "RecordHeartbeatHour",
            "/v1/metering/heartbeat-hours",
            "readings.record",
            HeartbeatHourBody,
            record,
            summary="Record an hour of heartbeats and the hash of its spool",
        ),
        CommandRoute(
            "AnnounceMaintenance",
            "/v1/metering/maintenance",
            "nodes.manage",
            MaintenanceBody,
            _announce,
            own_signature=True,
            summary="Announce hours of maintenance an hour ahead",
        ),
    )


def read_hour(jws: str, caller: Caller) -> HeartbeatHourPayload:
    """Return what the calling node signed for its hour.

    Raises AuthenticationFailed for another node's key or name, MalformedRequest, InvalidField.
    """
    signed = verified(jws, caller.actor, caller)
    try:
        payload = msgspec.convert(parse_json(signed.payload), HeartbeatHourPayload)
    except msgspec.ValidationError as error:
        raise MalformedRequest(f"the signed hour does not parse: {error}") from error
    if payload.node != caller.actor:
        raise AuthenticationFailed("the hour names another node than the one that signed it", node=payload.node)
    if payload.genesis != caller.directory.genesis_sha256:
        raise InvalidField("the hour is signed for another community", field="genesis")
    return payload


def _announce(body: MaintenanceBody, caller: Caller) -> AnnounceMaintenance:
    return AnnounceMaintenance(body.node, body.first_hour, body.hours, signed_by(caller))
