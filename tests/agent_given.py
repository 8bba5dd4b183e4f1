"""What tests of the agent begin with: a clock set by hand, GPUs that come and go, a registered home, a lease."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infra.agent.gpus import Gpu, GpuSample
from infra.agent.home import AgentHome, Identity
from infra.agent.line import look_at_line
from infra.agent.run import Agent, Pace

HOUR = 495_000
"""Some hour since 1970; the tests begin in it."""

HOUR_MS = 3_600_000
START = HOUR * HOUR_MS
DEVICE = "device/" + "d" * 32
LEASE = "1" * 32
GENESIS = "9" * 64


class HandClock:
    """A clock that stands still unless it is moved; `slipped` moves the wall clock alone."""

    def __init__(self, now_ms: int = START) -> None:
        self.wall_ms, self.steady_ms = now_ms, 0

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic_ms(self) -> int:
        return self.steady_ms

    def move(self, ms: int) -> None:
        self.wall_ms += ms
        self.steady_ms += ms


class HandGpus:
    """One GPU; `there` says whether it answers."""

    def __init__(self, device: str = DEVICE, model: str = "L40S") -> None:
        self.device, self.model, self.there = device, model, True

    def found(self) -> Sequence[Gpu]:
        return (Gpu(self.device, self.model, 46_068),)

    def sample(self) -> Sequence[GpuSample]:
        return (GpuSample(self.device, 37, 1_000, 200_000),) if self.there else ()

    def close(self) -> None: ...


def lease_row(start_ms: int = START, end_ms: int = START + 24 * HOUR_MS, share: int = 500, **more: Any) -> Any:
    """A lease as the view shows it."""
    row = {"lease": LEASE, "kind": "gpu", "devices": [{"device": DEVICE, "model": "L40S"}], "share": share}
    return row | {"start_ms": start_ms, "end_ms": end_ms, "cancelled_ms": None} | more


def agent_home(path: Path, server: str, gpus: tuple[str, ...] = (DEVICE,)) -> AgentHome:
    """A home that is registered."""
    home = AgentHome(path)
    cpu = "device/" + "c" * 32
    home.keep_identity(Identity(home.key.node, GENESIS, "member/" + "0" * 32, server, cpu, 4_000, gpus))
    return home


def an_agent(home: AgentHome, server: str, clock: HandClock, **more: Any) -> Agent:
    """An agent that waits for nothing; `said` collects what it says."""
    said: list[str] = more.pop("said", [])
    gpus, spool_bytes = more.pop("gpus", HandGpus()), more.pop("spool_bytes", 2**20)
    pace = Pace(60_000, 0.01, 0.01, 0.01, 0)
    agent = Agent(home, server, gpus, clock, pace, spool_bytes, said.append, more.pop("line", look_at_line))
    agent.books.resume(clock.now_ms(), more.pop("booted_ms", 0))
    return agent
