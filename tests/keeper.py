"""An agent's home that keeps a file for a lease on a running instance, and a steward who asks for it."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from events.metering import Content
from events.values import identifier
from infra.agent.clock import SystemClock
from infra.agent.hardware import Hardware
from infra.agent.home import AgentHome
from infra.agent.proving import Asked, answer_to
from infra.agent.registration import Terms, register
from infra.agent.store import Kept, Store
from infra.api import HttpApi
from infra.challenges import Draw, carry_out
from infra.keys import signing_key
from infra.platform import wall_clock_ms
from services.metering.batches import payload_bytes
from services.metering.storage import passes, read_answer, read_question
from tests.instance import Instance
from tests.storage_world import content_of

HOUR_MS = 3_600_000
MINUTE_MS = 60_000


@dataclass
class Keeper:
    """The instance, the agent's home, what it keeps there, and the lease of it."""

    instance: Instance
    home: AgentHome
    kept: Kept
    lease: str

    @property
    def ask(self) -> str:
        """The command that reaches the node."""
        return f"env COMMONS_AGENT_HOME={self.home.path} {sys.executable} -m infra.cli agent prove"

    def key_file(self, handle: str) -> str:
        path = self.home.path.parent / f"{handle}.key"
        path.touch(mode=0o600)
        path.write_text(self.instance.key(handle).private.private_bytes_raw().hex())
        return str(path)

    def api(self) -> HttpApi:
        return HttpApi(self.instance.url, self.instance.url, self.home.identity().genesis)

    def drawn(self, ago_ms: int) -> Draw:
        """A challenge that began some time ago."""
        began = wall_clock_ms() - ago_ms
        return Draw(self.lease, self.home.key.node, self.kept.root, secrets.token_hex(16), secrets.token_hex(32), began)

    def answer(self, drawn: Draw, **changes: Any) -> str:
        """The node's answer; honest but for the changes."""
        asked = Asked(drawn.lease, drawn.challenge, drawn.seed, drawn.start_ms, drawn.root)
        honest = read_answer(answer_to(self.home, asked, SystemClock()))
        return self.home.key.jws(msgspec.json.encode(msgspec.structs.replace(honest, **changes)))

    def carried_out(
        self, answer: Callable[[Keeper, Draw], str], *, by: str = "steward", ago_ms: int = 0
    ) -> Mapping[str, Any]:
        """Challenge the lease as a steward's tool does, and let the node answer so."""
        drawn = self.drawn(ago_ms)

        async def get(_arguments: Sequence[str]) -> str:
            return answer(self, drawn)

        async def work() -> Mapping[str, Any]:
            async with self.api() as api:
                return await carry_out(api, self.instance.key(by), drawn, get, wall_clock_ms)

        return asyncio.run(work())

    def fact(self, challenge: str) -> Mapping[str, Any]:
        """The data of a recorded challenge, from the audit trail, once that shows it."""

        async def look() -> Mapping[str, Any]:
            async with self.api() as api:
                while True:
                    wanted = {"type": "metering.storage-challenged.v1", "newest_first": "true"}
                    for entry in (await api.view("/v1/views/audit_trail", **wanted))["items"]:
                        found = await api.view(f"/v1/views/audit_trail/metering/{entry['position']}")
                        fact: Mapping[str, Any] = json.loads(found["record"])["data"]
                        if fact["challenge"] == challenge:
                            return fact
                    await asyncio.sleep(0.1)

        return asyncio.run(asyncio.wait_for(look(), 30))

    def judged(self, fact: Mapping[str, Any]) -> bool:
        """What an auditor finds, who has the record and the lease's content and nothing else."""
        question, answer = read_question(fact["challenger_jws"]), read_answer(fact["node_jws"])
        return passes(question, answer, Content(self.kept.root, self.kept.bytes))


def other_chunks(keeper: Keeper, drawn: Draw) -> str:
    chunks = read_answer(keeper.answer(drawn)).chunks
    return keeper.answer(drawn, chunks=(chunks[0], *reversed(chunks[1:])))


def another_node_s(keeper: Keeper, drawn: Draw) -> str:
    return signing_key(bytes(32)).jws(payload_bytes(keeper.answer(drawn)))


def of_another_challenge(keeper: Keeper, drawn: Draw) -> str:
    return keeper.answer(drawn, challenge="f" * 32)


def no_jws(keeper: Keeper, drawn: Draw) -> str:
    return keeper.answer(drawn).replace(".", "_")


def nothing(_keeper: Keeper, _drawn: Draw) -> str:
    return ""


async def keep_and_lease(running: Instance, folder: Path) -> Keeper:
    """Register a machine with its disk, keep a file there, and lease it to the lab since four minutes ago."""
    source, home = folder / "file", AgentHome(folder / "agent")
    source.write_bytes(content_of(100_000))
    kept = Store(home.path).keep(source)
    cpu, disk, line = (f"device/{identifier('test.keeper', name)}" for name in ("cpu", "disk", "line"))
    machine = Hardware(cpu, "cpu", 8_000, 16_384, (), disk, line)
    terms = Terms("XX", "keeper", storage_gb=200)
    identity, _ = await register(home, machine, terms, running.key("aurora"), running.url, running.url)
    now, lease = wall_clock_ms(), secrets.token_hex(16)
    asked = {
        "lease": lease,
        "kind": "storage",
        "devices": 0,
        "share": kept.mb,
        "start_ms": now - 4 * MINUTE_MS,
        "end_ms": now + HOUR_MS,
        "content": {"root": kept.root, "bytes": kept.bytes},
    }
    made = Keeper(running, home, kept, lease)
    async with made.api() as api:
        body = {"project": "protein-folding", "leases": [asked]}
        answer = await api.authorised(running.key("lab"), "OpenLeases", "/v1/metering/leases", body, "open storage")
        assert answer["leases"][0]["node"] == identity.node
        while not (await api.view("/v1/views/usage/leases", node=identity.node))["items"]:
            await asyncio.sleep(0.1)
    return made
