"""A whole instance in this process, on the tail, whose spans are kept: for tests of traces and numbers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from msgspec import to_builtins
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from infra.following import followers
from infra.founding import found
from infra.http.authorizations import authorize
from infra.http.client import RequestSigner
from infra.http.heartbeats import MemoryHeartbeats
from infra.http.nonces import MemoryNonces
from infra.platform import Platform, open_platform, run_roles, wall_clock_ms
from infra.serving import make_app
from infra.settings import read_settings
from tests.registry_world import community, key, private

URL = "http://127.0.0.1:8700"
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = f"00-{TRACE}-b7ad6b7169203331-01"
"""The trace of a caller who has one, as in the examples of W3C Trace Context."""


@dataclass
class Traced:
    """The instance, a transport to its edge, and the spans that have ended."""

    platform: Platform
    http: httpx.ASGITransport
    exporter: InMemorySpanExporter

    def spans(self, trace_id: str = TRACE) -> list[ReadableSpan]:
        return [each for each in self.exporter.get_finished_spans() if f"{each.context.trace_id:032x}" == trace_id]

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient(transport=self.http, base_url=URL) as client:
            return await client.get(path)

    async def send(self, raw: bytes, headers: Mapping[str, str]) -> httpx.Response:
        async with httpx.AsyncClient(transport=self.http, base_url=URL) as client:
            return await client.post(PATH, content=raw, headers=headers)

    async def register(self, name: str, traceparent: str = CALLER) -> httpx.Response:
        """Let the steward make a member known, in the caller's own trace."""
        return await self.send(*await self.registration(name, traceparent))

    async def registration(self, name: str, traceparent: str = CALLER) -> tuple[bytes, dict[str, str]]:
        """Return the request that makes a member known."""
        genesis = (await self.platform.feed.current()).genesis_sha256
        body: dict[str, Any] = {"handle": name, "kind": "human", "key": to_builtins(key(name))}
        signer = RequestSigner(private("steward"))
        raw = json.dumps(authorize(private("steward"), signer.kid, genesis, "RegisterMember", body)).encode()
        return raw, signer.headers("POST", URL + PATH, raw) | {"traceparent": traceparent}

    async def caught_up(self) -> None:
        await caught_up(self.platform)


PATH = "/v1/registry/members/register"


@asynccontextmanager
async def traced(database: str, home: Path) -> AsyncIterator[Traced]:
    """Serve http and follow with a founded community; what happened until then is forgotten."""
    settings = read_settings({"COMMONS_HOME": str(home), "COMMONS_DATABASE": database})
    exporter, stop = InMemorySpanExporter(), asyncio.Event()
    serving: asyncio.Future[httpx.ASGITransport] = asyncio.get_running_loop().create_future()

    async def serve(platform: Platform, stop: asyncio.Event) -> None:
        app = make_app(platform, MemoryNonces(wall_clock_ms), MemoryHeartbeats(wall_clock_ms))
        serving.set_result(httpx.ASGITransport(app))
        await stop.wait()

    async with open_platform(settings, database, SimpleSpanProcessor(exporter)) as platform:
        await found(platform, community())
        roles = asyncio.create_task(run_roles(platform, ("http", "follow"), stop, serve))
        try:
            transport = await serving
            await caught_up(platform)
            exporter.clear()
            yield Traced(platform, transport, exporter)
        finally:
            stop.set()
            await roles


async def caught_up(platform: Platform) -> None:
    """Wait until no follower is behind, twice: a policy's command may bring what others follow."""
    for _ in range(2):
        async with asyncio.timeout(20):
            while any(each.behind for each in await followers(platform)):
                await asyncio.sleep(0.02)
