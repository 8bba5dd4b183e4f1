"""Heartbeats through the whole edge: signed requests in, receipts out, and an hour that becomes a command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
import pytest

from events.spool import minutes_text
from events.values import node_id
from infra.http.edge import build_app
from infra.http.heartbeats import MemoryHeartbeats
from infra.http.nonces import MemoryNonces
from infra.http.parts import Settings, make_parts
from services.kernel.jws import parse_jws, public_key, raw_public, sign_jws
from services.metering.heartbeat_api import heartbeat_routes
from tests.edge_calls import slug
from tests.metering_world import HOUR, MINUTE
from tests.toy_edge import PUBLIC_URL, ToyEdge, toy_edge

PATH = "/v1/metering/heartbeats"
HOURS = "/v1/metering/heartbeat-hours"
SHA = "ab" * 32


async def nothing() -> Sequence[str]:
    return []


@pytest.fixture
async def edge() -> AsyncIterator[ToyEdge]:
    """The toy community with the routes of heartbeats, over a table in memory."""
    async with toy_edge() as made:
        heartbeats = MemoryHeartbeats(made.clock)
        parts = make_parts(
            Settings(PUBLIC_URL),
            appenders={"metering": made.appender},
            feed=made.feed,
            acknowledger=made.acks,
            nonces=MemoryNonces(made.clock),
            now_ms=made.clock,
            ready=nothing,
        )
        made.app = build_app(parts, {"metering": heartbeat_routes(heartbeats, made.acks, made.clock)})
        yield made


def beat(edge: ToyEdge, **changes: Any) -> dict[str, Any]:
    return {"minute": edge.clock.now_ms // MINUTE, "spool_sha256": SHA, **changes}


async def test_a_node_s_heartbeat_is_answered_with_a_receipt_it_can_verify(edge: ToyEdge) -> None:
    async with edge.client(edge.keys.node) as client:
        for _ in range(2):
            answer = await client.command(PATH, beat(edge))
            assert answer.status_code == 200, answer.text
            receipt = parse_jws(answer.json()["receipt"])
            receipt.verify(raw_public(edge.acks.private))
            told = msgspec.json.decode(receipt.payload)
            assert (told["node"], told["minute"]) == (node_id(raw_public(edge.keys.node)), beat(edge)["minute"])
    assert edge.appender.position == 0, "a heartbeat is no fact"


async def test_a_member_sends_no_heartbeat_and_a_stranger_neither(edge: ToyEdge) -> None:
    async with edge.client() as member, edge.plain() as stranger:
        assert slug(await member.command(PATH, beat(edge))) == "permission-denied"
        assert (await stranger.post(PATH, json=beat(edge))).status_code == 401


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"minute": 0}, 409),
        ({"minute": "1"}, 422),
        ({"minute": -1}, 422),
        ({"spool_sha256": "xy"}, 422),
        ({"node": "node/" + "0" * 32}, 422),
    ],
)
async def test_a_heartbeat_of_another_time_form_or_node_is_refused(
    edge: ToyEdge, changes: dict[str, Any], status: int
) -> None:
    async with edge.client(edge.keys.node) as client:
        assert (await client.command(PATH, beat(edge, **changes))).status_code == status


async def test_an_hour_signed_by_another_node_is_refused_before_it_is_a_command(edge: ToyEdge) -> None:
    payload = {
        "node": node_id(raw_public(edge.keys.node)),
        "hour": edge.clock.now_ms // HOUR - 1,
        "minutes": minutes_text(0),
        "spool_sha256": SHA,
        "genesis": "0" * 64,
    }
    kid = public_key(raw_public(edge.keys.member)).kid
    jws = sign_jws(edge.keys.member, kid, msgspec.json.encode(payload))
    async with edge.client(edge.keys.node) as client:
        assert slug(await client.command(HOURS, {"jws": jws})) == "authentication-failed"


async def test_the_document_describes_the_routes_of_heartbeats(edge: ToyEdge) -> None:
    operation = edge.app.openapi()["paths"][PATH]["post"]
    assert operation["x-permission"] == "readings.record"
    assert "HeartbeatBody" in operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
