"""In the demo this machine joins as a live node: registered under a provider, leased, and metered by its own agent."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx

from infra.agent.gpus import open_gpus
from infra.agent.hardware import Hardware, look
from infra.agent.home import AgentHome, AgentRefused, Identity
from infra.agent.registration import Terms, register
from infra.api import ApiRefused, HttpApi
from infra.keys import KeyDirectory, KeyFileRefused, member_key
from infra.local import Say, local_url
from infra.settings import Settings

PROVIDER: Final = "aurora"
CONSUMER: Final = "lab"
PROJECT: Final = "protein-folding"
LEASE_MS: Final = 3_600_000
CPU_SHARE: Final = 1_000
"""One core is leased where there is no GPU; a whole GPU otherwise."""

DRAWS: Final = 20_000
STOP_SECONDS: Final = 15.0
RESTART_SECONDS: Final = (1.0, 5.0, 30.0)
SLICE_SECONDS: Final = "10"


@dataclass(frozen=True, slots=True)
class LiveNode:
    """This machine as it joined; `lease` is None where none could be placed on it."""

    identity: Identity
    lease: str | None


@asynccontextmanager
async def live_node(settings: Settings, say: Say) -> AsyncIterator[LiveNode | None]:
    """Let this machine be a node for as long as the context lasts. What stands in the way is said, and ends nothing."""
    try:
        joined = await join(settings)
    except (AgentRefused, ApiRefused, KeyFileRefused, httpx.HTTPError, OSError) as error:
        say(f"this machine did not join as a live node: {error}")
        yield None
        return
    url = f"{local_url(settings)}/v1/views"
    say(f"this machine is {joined.identity.node}: {url}/nodes/{joined.identity.node}")
    if joined.lease:
        say(f"  it is metered for the lease {joined.lease}: {url}/usage?node={joined.identity.node}")
    running = asyncio.create_task(_keep(settings, say))
    try:
        yield joined
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def join(settings: Settings) -> LiveNode:
    """Register this machine and open a lease on it. Raises AgentRefused, ApiRefused, KeyFileRefused, OSError."""
    home = AgentHome(settings.home / "agent")
    operator = KeyDirectory(settings.home).secret("operator")
    gpus, _ = open_gpus(home.device_secret)
    hardware = look(gpus, home.device_secret)
    gpus.close()
    server, public = local_url(settings), settings.public_url
    terms = Terms("XX", "this machine")
    identity, _ = await register(home, hardware, terms, member_key(operator, PROVIDER), server, public)
    async with HttpApi(server, public, identity.genesis) as api:
        now = time.time_ns() // 1_000_000
        there = await api.view("/v1/views/usage/leases", node=identity.node, ending_after_ms=now)
        if there["items"]:
            return LiveNode(identity, str(there["items"][0]["lease"]))
        lease = await _terms(api, identity, hardware)
        lease |= {"start_ms": now, "end_ms": now + LEASE_MS}
        body = {"project": PROJECT, "leases": [lease]}
        consumer = member_key(operator, CONSUMER)
        try:
            answer = await api.authorised(consumer, "OpenLeases", "/v1/metering/leases", body, secrets.token_hex(16))
        except ApiRefused:
            return LiveNode(identity, None)  # it still beats, which is what a node without work does
        placed = answer["leases"][0]
        return LiveNode(identity, str(placed["lease"]) if placed["node"] == identity.node else None)


async def _terms(api: HttpApi, identity: Identity, hardware: Hardware) -> dict[str, Any]:
    """Return terms that the system places on this machine, although it alone picks the node.

    A GPU is asked for by its model. Cores are all alike: there the consumer draws lease ids until the published tie
    rule (SHA-256 of lease and node) falls on this machine, which only costs it some thousand hashes.
    """
    if hardware.gpus:
        return {"lease": secrets.token_hex(16), "share": 1_000, "models": [hardware.gpus[0].model]}
    nodes = await _nodes(api)
    for _ in range(DRAWS):
        lease = secrets.token_hex(16)
        prefix = lease.encode() + b"\0"
        if min(nodes, key=lambda node: hashlib.sha256(prefix + node.encode()).digest()) == identity.node:
            break
    return {"lease": lease, "kind": "cpu", "devices": 0, "share": CPU_SHARE}


async def _nodes(api: HttpApi) -> list[str]:
    """Return the nodes a lease of cores may be placed on."""
    found: list[str] = []
    params: dict[str, str | int] = {"status": "active", "limit": 200}
    while True:
        page: Mapping[str, Any] = await api.view("/v1/views/nodes", **params)
        found += [node["node"] for node in page["items"] if node["cpu_milli"] >= CPU_SHARE]
        if not page["next"]:
            return found
        params["cursor"] = page["next"]


async def _keep(settings: Settings, say: Say) -> None:
    """Run the agent as a child, again when it dies; it ends with us however we end, because its stdin does."""
    environ = dict(os.environ)
    environ |= {"COMMONS_AGENT_HOME": str(settings.home / "agent"), "COMMONS_AGENT_SERVER": local_url(settings)}
    environ.setdefault("COMMONS_AGENT_SLICE_SECONDS", SLICE_SECONDS)
    deaths = 0
    while True:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "infra.cli", "agent", "run", "--with-parent"),
            stdin=asyncio.subprocess.PIPE,
            env=environ,
            start_new_session=True,
        )
        try:
            status = await process.wait()
        finally:
            await asyncio.shield(_end(process))
        pause = RESTART_SECONDS[min(deaths, len(RESTART_SECONDS) - 1)]
        deaths += 1
        say(f"the agent ended (exit status {status}); starting it again in {pause:g} s")
        await asyncio.sleep(pause)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
