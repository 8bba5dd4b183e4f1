"""A policy whose command is refused parks the fact with its stream; other streams go on, and a replay keeps order."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from events.bus import Bus, Follower, Subscription
from events.catalog import Recorded
from events.store import CheckpointMoved, Move
from infra.memory import MemoryStore
from infra.tail import TailBus
from services.kernel.appender import Appender
from services.kernel.decider import Context, Decision, Policy, Service
from services.kernel.errors import Refusal, Unavailable
from services.kernel.policies import PolicyRunner
from services.kernel.replaying import Replay
from tests.memory_aside import MemoryAside
from tests.toy import Count, Counted, Counts, catalog, decide, echo, evolve, request, running, service

POLICY = "policy/toy.echo"


@dataclass
class Rules:
    """What the effects' service refuses now, and what it cannot answer."""

    refused: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)

    def decide(self, command: Count, state: Counts, context: Context) -> Decision:
        if command.name in self.refused:
            raise Refusal(f"{command.name} is refused")
        if command.name in self.away:
            raise Unavailable(f"{command.name} is away", retry_after_seconds=1)
        return decide(command, state, context)


class CountingBus:
    """Counts who subscribes."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.subscribed = 0

    async def subscribe(self, follower: Follower) -> Subscription:
        self.subscribed += 1
        return await self._bus.subscribe(follower)


@dataclass
class World:
    causes: Appender[Any]
    effects: Appender[Any]
    aside: MemoryAside
    bus: CountingBus
    rules: Rules
    said: int = 0

    async def say(self, *names: str) -> None:
        for name in names:
            self.said += 1
            await self.causes.submit(request(Count(name), str(self.said)))

    def runner(self, patience: float = 0.0) -> PolicyRunner:
        (policy,) = self.effects.service.policies
        return PolicyRunner(policy, self.effects, self.bus, catalog(), self.aside, patience_seconds=patience)

    @asynccontextmanager
    async def following(self, patience: float = 0.0) -> AsyncIterator[None]:
        task = asyncio.create_task(self.runner(patience).run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def reached(self, position: int) -> None:
        async with asyncio.timeout(10):
            while True:
                at = (await self.effects.store.checkpoints(POLICY)).get("source")
                if at is not None and at.position >= position:
                    return
                await asyncio.sleep(0.01)

    async def replay(self) -> tuple[int, int]:
        (policy,) = self.effects.service.policies
        report = await Replay(policy, self.effects, catalog(), self.aside).run()
        return report.replayed, report.parked

    async def caused(self) -> list[int]:
        """The positions of the causes, in the order of their effects."""
        ids = {catalog().decode(each.state).id: each.id for each in await self.causes.store.read(0)}
        return [ids[causation_of(each.state)] for each in await self.effects.store.read(0)]


def causation_of(record: bytes) -> str:
    return str(json.loads(record)["causationid"])


@pytest.fixture
async def world() -> AsyncIterator[World]:
    source, target, rules = MemoryStore("source"), MemoryStore("toy"), Rules()
    policy = Policy("toy.echo", "source", (Counted,), echo)
    made: Service[Counts] = Service("toy", Counts, evolve, {Count: rules.decide}, (policy,))
    async with AsyncExitStack() as stack:
        causes = await stack.enter_async_context(running(source, service("source")))
        effects = await stack.enter_async_context(running(target, made))
        bus = CountingBus(TailBus({"source": source, "toy": target}))
        yield World(causes, effects, MemoryAside(target), bus, rules)


async def test_other_streams_go_on_and_a_replay_keeps_the_order_within_the_stream(world: World) -> None:
    world.rules.refused = {"echo-bad"}
    await world.say("good", "bad", "good", "bad", "fine")
    async with world.following():
        await world.reached(5)
        await world.say("bad", "good")
        await world.reached(7)
        assert dict(world.effects.state.counts) == {"echo-good": 3, "echo-fine": 1}
        (alarm,) = await world.aside.alarms()
        assert (alarm.stream, alarm.position, alarm.error) == ("count/bad", 2, "Refusal: echo-bad is refused")
        assert await world.replay() == (0, 3)
        world.rules.refused = set()
        assert await world.replay() == (3, 0)
        await world.say("bad")
        await world.reached(8)
    assert await world.caused() == [1, 3, 5, 7, 2, 4, 6, 8]
    assert await world.aside.counts() == {}
    assert world.bus.subscribed == 1, "it never left its group"


async def test_what_is_refused_only_for_a_while_is_never_parked(world: World) -> None:
    world.rules.refused, world.rules.away = {"echo-early"}, {"echo-away"}
    await world.say("early", "away", "good")
    async with world.following(patience=30):
        await asyncio.sleep(0.7)
        assert not await world.effects.store.read(0)
        world.rules.refused = set()
        await asyncio.sleep(0.7)
        world.rules.away = set()
        await world.reached(3)
    assert await world.caused() == [1, 2, 3]
    assert world.bus.subscribed == 1, "it waited where it stood"
    assert await world.aside.counts() == {}


async def test_what_was_parked_is_tried_again_by_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.kernel.policies.REPLAY_SECONDS", 0.1)
    world.rules.refused = {"echo-bad"}
    await world.say("bad", "bad", "good")
    async with world.following():
        await world.reached(3)
        world.rules.refused = set()
        async with asyncio.timeout(10):
            while await world.aside.counts():
                await asyncio.sleep(0.05)
        await world.say("bad")
        await world.reached(4)
    assert await world.caused() == [3, 1, 2, 4]


async def test_a_fact_the_policy_stumbles_over_is_parked_at_once(world: World) -> None:
    def stumble(recorded: Recorded) -> list[Count]:
        assert isinstance(recorded.fact, Counted)
        return [Count(f"echo-{recorded.fact.name}", 1 // (2 - recorded.fact.by))]

    policy = Policy("toy.echo", "source", (Counted,), stumble)
    runner = PolicyRunner(policy, world.effects, world.bus, catalog(), world.aside)
    await world.causes.submit(request(Count("a", 1), "x"))
    await world.causes.submit(request(Count("b", 2), "y"))
    task = asyncio.create_task(runner.run())
    await world.reached(2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (alarm,) = await world.aside.alarms()
    assert (alarm.position, alarm.error) == (2, "ZeroDivisionError: integer division or modulo by zero")
    assert await world.caused() == [1]


async def test_a_runner_that_was_overtaken_parks_nothing(world: World) -> None:
    world.rules.refused = {"echo-bad"}
    await world.say("bad", "good")
    zombie = world.runner()
    subscription = await world.bus.subscribe(zombie._follower)
    page = await subscription.fetch(1)
    assert page is not None
    world.rules.refused = set()
    async with world.following():
        await world.reached(2)
    world.rules.refused = {"echo-bad"}
    with pytest.raises(CheckpointMoved):
        await zombie._react(page)
    assert await world.aside.counts() == {}
    assert await world.caused() == [1, 2]


async def test_a_policy_sent_back_decides_nothing_twice(world: World) -> None:
    world.rules.refused = {"echo-bad"}
    await world.say("good", "bad", "good", "bad")
    async with world.following():
        await world.reached(4)
    at = (await world.effects.store.checkpoints(POLICY))["source"]
    (record,) = await world.causes.store.read(0, 1)
    back = replace(at, position=1, record_hash=hashlib.sha256(record.state).digest())
    await world.effects.store.move([Move(4, back)])
    world.rules.refused = set()
    async with world.following():
        await world.reached(4)
        async with asyncio.timeout(10):
            while await world.aside.counts():
                await asyncio.sleep(0.01)
    assert await world.caused() == [1, 3, 2, 4], "what was parked is tried again at the start"
