"""Heartbeats and spools for the small community of `metering_world`."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import msgspec

from events.metering import HeartbeatHourRecorded
from events.spool import spool_hash, spool_line
from services.metering.commands import AdoptNode, RecordHeartbeatHour
from tests.metering_world import HOUR, World, batch, node, signed

ALL: int = (1 << 60) - 1
"""The map of an hour without a gap."""

Reading = tuple[str, str, int, int, int]


def hour_of(time_ms: int) -> int:
    return time_ms // HOUR


def minutes(count: int) -> int:
    """The map of an hour with the first `count` heartbeats."""
    return (1 << count) - 1


def hash_of(node_name: str, hour: int, readings: Sequence[Reading]) -> str:
    return spool_hash(node(node_name), hour, [spool_line(*reading) for reading in readings]).hex()


def adopt(world: World, node_name: str, since_ms: int) -> None:
    """What the policy does on a fact of the registry about a node."""
    world.spec.when(AdoptNode(node(node_name), since_ms), "policy/metering.adopt")


def record_hour(
    world: World,
    node_name: str,
    hour: int,
    spool: Sequence[Reading] = (),
    signed_minutes: int = ALL,
    answered_minutes: int = ALL,
) -> HeartbeatHourRecorded | None:
    command = RecordHeartbeatHour(
        node(node_name), hour, signed_minutes, answered_minutes, hash_of(node_name, hour, spool), "jws"
    )
    facts = world.spec.when(command, node(node_name))
    return facts[0] if facts else None


def late_batch(
    node_name: str,
    readings: Sequence[Reading],
    hour: int,
    spool: str,
    part: int = 0,
    parts: int = 1,
    number: int = 0,
) -> str:
    """Return a batch of readings in the order given that brings a part of an hour's spool."""
    text = batch(node_name, readings, number).split(".")[1]
    payload = msgspec.json.decode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    payload |= {"spool": spool, "hour": hour, "part": part, "parts": parts}
    return signed(msgspec.json.encode(payload), node_name)
