"""The edge of heartbeats: whose they are, and what the instance signs for them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from events.spool import minutes_text
from infra.http.heartbeats import MemoryHeartbeats
from services.kernel.acks import Acknowledger
from services.kernel.errors import AuthenticationFailed, InvalidField, MalformedRequest
from services.kernel.jws import parse_jws, raw_public, sign_jws
from services.kernel.routes import Caller, CommandRoute, WorkingRoute
from services.metering.commands import AnnounceMaintenance, RecordHeartbeatHour
from services.metering.errors import HeartbeatOutOfTime
from services.metering.heartbeat_api import HeartbeatBody, HeartbeatHourBody, MaintenanceBody, heartbeat_routes
from tests.heartbeat_world import ALL, hour_of
from tests.metering_world import HOUR, MINUTE, NOW_MS, World, key_of, member, node, private_key

NODE = "one"
FIRST = hour_of(NOW_MS)
SHA = "ab" * 32


class Edge:
    """The routes over a memory table, with a clock of their own."""

    def __init__(self) -> None:
        self.now_ms = NOW_MS
        self.key = private_key("instance")
        self.heartbeats = MemoryHeartbeats(lambda: self.now_ms)
        self.directory = World().with_node(NODE).with_node("two").spec.directory
        made = heartbeat_routes(self.heartbeats, Acknowledger.of(self.key), lambda: self.now_ms)
        self.routes: dict[str, Any] = {route.name: route for route in made}

    def caller(self, name: str = NODE) -> Caller:
        return Caller(node(name), key_of(name).kid, self.directory)

    async def beat(self, minute: int, sha: str = SHA, name: str = NODE) -> dict[str, Any]:
        route: WorkingRoute = self.routes["NoteHeartbeat"]
        answer = await route.answer(HeartbeatBody(minute=minute, spool_sha256=sha), self.caller(name))
        receipt = parse_jws(answer["receipt"])
        receipt.verify(raw_public(self.key))
        return dict(msgspec.json.decode(receipt.payload))

    async def hour(self, *, signer: str = NODE, **changes: object) -> RecordHeartbeatHour:
        payload = {
            "node": node(NODE),
            "hour": FIRST,
            "minutes": minutes_text(ALL),
            "spool_sha256": SHA,
            "genesis": self.directory.genesis_sha256,
        } | changes
        jws = sign_jws(private_key(signer), key_of(signer).kid, msgspec.json.encode(payload))
        route: CommandRoute = self.routes["RecordHeartbeatHour"]
        command: Any = route.command(HeartbeatHourBody(jws=jws), self.caller())
        return await command  # type: ignore[no-any-return]


@pytest.fixture
def edge() -> Edge:
    return Edge()


async def test_a_receipt_names_node_minute_hash_and_time(edge: Edge) -> None:
    edge.now_ms = NOW_MS + 3 * MINUTE + 500
    assert await edge.beat(NOW_MS // MINUTE + 3) == {
        "node": node(NODE),
        "minute": NOW_MS // MINUTE + 3,
        "spool_sha256": SHA,
        "time": "2025-04-11T00:03:00.500000Z",
    }


async def test_a_second_heartbeat_of_a_minute_is_answered_with_the_first_one_s_hash(edge: Edge) -> None:
    await edge.beat(NOW_MS // MINUTE)
    assert (await edge.beat(NOW_MS // MINUTE, "cd" * 32))["spool_sha256"] == SHA
    assert await edge.heartbeats.minutes(node(NODE), FIRST) == 1


async def test_a_heartbeat_out_of_its_time_is_refused(edge: Edge) -> None:
    for minute in (NOW_MS // MINUTE + 1, NOW_MS // MINUTE - 2):
        with pytest.raises(HeartbeatOutOfTime):
            await edge.beat(minute)
    assert await edge.heartbeats.minutes(node(NODE), FIRST) == 0


async def test_a_heartbeat_is_the_calling_node_s_and_no_other_s(edge: Edge) -> None:
    await edge.beat(NOW_MS // MINUTE, name="two")
    assert await edge.heartbeats.minutes(node(NODE), FIRST) == 0
    with pytest.raises(ValueError, match="node"):
        HeartbeatBody.model_validate({"minute": 1, "spool_sha256": SHA, "node": node(NODE)})


async def test_an_hour_is_recorded_with_what_was_answered(edge: Edge) -> None:
    await edge.beat(NOW_MS // MINUTE)
    edge.now_ms += 10 * MINUTE
    await edge.beat(NOW_MS // MINUTE + 10)
    command = await edge.hour(minutes=minutes_text(0b11))
    assert (command.signed_minutes, command.answered_minutes) == (0b11, 1 | 1 << 10)
    assert (command.node, command.hour, command.spool_sha256) == (node(NODE), FIRST, SHA)


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"signer": "two"}, AuthenticationFailed),
        ({"signer": "provider"}, AuthenticationFailed),
        ({"node": node("two")}, AuthenticationFailed),
        ({"genesis": "1" * 64}, InvalidField),
        ({"minutes": "f" * 16}, MalformedRequest),
        ({"minutes": "F" * 15}, MalformedRequest),
        ({"hour": -1}, MalformedRequest),
        ({"spool_sha256": "ab"}, MalformedRequest),
        ({"more": 1}, MalformedRequest),
    ],
)
async def test_an_hour_of_another_node_community_or_form_is_refused(
    edge: Edge, changes: dict[str, Any], refusal: type[Exception]
) -> None:
    with pytest.raises(refusal):
        await edge.hour(**changes)


def test_maintenance_carries_the_owner_s_own_signature(edge: Edge) -> None:
    route: CommandRoute = edge.routes["AnnounceMaintenance"]
    assert route.own_signature
    caller = Caller(member("provider"), key_of("provider").kid, edge.directory, "jws")
    body = MaintenanceBody(node=node(NODE), first_hour=FIRST + HOUR, hours=2)
    assert route.command(body, caller) == AnnounceMaintenance(node(NODE), FIRST + HOUR, 2, "jws")
