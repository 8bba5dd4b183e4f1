"""A service as small as can be, built from the kernel's own values: a counter with a ceiling, one stream per name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from immutables import Map

from events.catalog import Catalog, Recorded
from events.envelope import Fact
from events.store import Store
from services.kernel.appender import Appender
from services.kernel.decider import Command, Context, Decision, Emit, Policy, Service, Timed
from services.kernel.directory import Directory
from services.kernel.errors import Refusal
from services.kernel.group import Request


class Counted(Fact, frozen=True):
    TYPE: ClassVar[str] = "toy.counted.v1"
    name: str
    by: int
    padding: str = ""


class CeilingReached(Refusal):
    """The count would pass the ceiling."""

    slug = "ceiling-reached"


@dataclass(frozen=True, slots=True)
class Count(Command):
    name: str
    by: int = 1
    padding: str = ""


@dataclass(frozen=True, slots=True)
class Stumble(Command):
    """A command whose decider has a mistake in it."""


@dataclass(frozen=True, slots=True)
class Counts:
    counts: Map[str, int] = Map()


CEILING = 1_000_000


def decide(command: Count, state: Counts, context: Context) -> Decision:
    total = state.counts.get(command.name, 0) + command.by
    if total > CEILING:
        raise CeilingReached("too many", ceiling=CEILING)
    fact = Counted(command.name, command.by, command.padding)
    return Decision((Emit(f"count/{command.name}", fact),) if command.by else (), {"total": total})


def stumble(_command: Stumble, _state: Counts, _context: Context) -> Decision:
    raise ZeroDivisionError


def evolve(state: Counts, recorded: Recorded) -> Counts:
    fact = recorded.fact
    assert isinstance(fact, Counted)
    return replace(state, counts=state.counts.set(fact.name, state.counts.get(fact.name, 0) + fact.by))


def due(state: Counts, now_ms: int) -> list[Timed]:
    """One count for every whole second since 1970 that has not been counted, at most one at a time."""
    counted = state.counts.get("ticks", 0)
    return [Timed(f"tick/{counted + 1}", Count("ticks"))] if now_ms // 1_000 > counted else []


def echo(recorded: Recorded) -> list[Command]:
    fact = recorded.fact
    assert isinstance(fact, Counted)
    return [Count(f"echo-{fact.name}", fact.by)] if not fact.name.startswith("echo") else []


def service(name: str = "toy", source: str = "toy") -> Service[Counts]:
    policy = Policy("toy.echo", source, (Counted,), echo)
    return Service(name, Counts, evolve, {Count: decide, Stumble: stumble}, (policy,), due)


def catalog() -> Catalog:
    return Catalog([Counted])


def request(command: Command, command_id: str, actor: str = "member/1", inputs: bytes | None = None) -> Request:
    return Request(command, actor, command_id, repr(command).encode() if inputs is None else inputs)


@asynccontextmanager
async def running(
    store: Store, made: Service[Any] | None = None, directory: Callable[[], Any] | None = None
) -> AsyncIterator[Appender[Any]]:
    """An appender over a store, loaded and serving."""

    async def nobody() -> Directory:
        return Directory()

    appender: Appender[Any] = Appender(made or service(), store, catalog(), directory or nobody, b"key")
    await appender.load()
    task = asyncio.create_task(appender.run())
    try:
        yield appender
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
