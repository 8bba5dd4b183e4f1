"""The treasury behind its real policies: founding, members, epochs and late usage arrive by the bus, each once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from events import metering, registry
from events.catalog import Recorded
from events.envelope import Fact
from events.facts import catalog
from events.genesis import Pool
from events.treasury import EpochSettled, GateAnswer
from infra.gate import Ungated
from infra.memory import MemoryLog, MemoryStore
from infra.tail import TailBus
from services.kernel.appender import Appender
from services.kernel.decider import Command, Context, Decision, Emit, Service
from services.kernel.feed import DirectoryFeed
from services.kernel.group import Request
from services.kernel.jws import public_key
from services.kernel.policies import PolicyRunner
from services.treasury.gate import ReleaseGate
from services.treasury.invariants import check_book
from services.treasury.service import service
from services.treasury.state import Book
from tests.memory_aside import MemoryAside
from tests.treasury_given import ADA, BEN, community, node


@dataclass(frozen=True, slots=True)
class Say(Command):
    """Let a neighbour of the treasury state facts."""

    facts: tuple[Fact, ...]


def neighbour(name: str) -> Service[None]:
    def say(command: Say, _state: None, _context: Context) -> Decision:
        return Decision([Emit("any", fact) for fact in command.facts])

    return Service(name, lambda: None, lambda state, _recorded: state, {Say: say})


class House:
    """Three services over stores in memory; only the treasury is real."""

    def __init__(self, gate: ReleaseGate | None = None) -> None:
        self.log = MemoryLog()
        self.stores = {name: MemoryStore(name) for name in ("registry", "metering")}
        self.stores["treasury"] = MemoryStore("treasury", log=self.log)
        self.catalog = catalog()
        self.gate = gate or Ungated()
        self.aside = MemoryAside(self.stores["treasury"])
        self.said = 0

    def appender(self, made: Service[Any]) -> Appender[Any]:
        feed = DirectoryFeed(self.stores["registry"], self.catalog)
        return Appender(made, self.stores[made.name], self.catalog, feed.current, b"key")

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve all three, with every policy of the treasury following."""
        made = service(self.gate)
        self.appenders = {one.name: self.appender(one) for one in (neighbour("registry"), neighbour("metering"), made)}
        for appender in self.appenders.values():
            await appender.load()
        bus = TailBus(self.stores)
        treasury = self.appenders["treasury"]
        self.runners = [
            PolicyRunner(policy, treasury, bus, self.catalog, self.aside, patience_seconds=1)
            for policy in made.policies
        ]
        async with AsyncExitStack() as stack:
            parts: tuple[Appender[Any] | PolicyRunner, ...] = (*self.appenders.values(), *self.runners)
            for part in parts:
                stack.push_async_callback(_ended, asyncio.create_task(part.run()))
            yield

    async def say(self, source: str, *facts: Fact) -> None:
        self.said += 1
        request = Request(Say(facts), "clock", f"say-{self.said}", str(self.said).encode())
        await self.appenders[source].submit(request)

    async def settled(self) -> Book:
        """Wait until every policy has followed everything; return the book."""
        async with asyncio.timeout(20):
            for runner in self.runners:
                source = runner.policy.source
                while (await self._reached(runner.name, source)) < (await self.stores[source].head()).position:
                    await asyncio.sleep(0.01)
        book: Book = self.appenders["treasury"].state
        assert check_book(book) == ()
        return book

    async def _reached(self, follower: str, channel: str) -> int:
        checkpoint = (await self.stores["treasury"].checkpoints(follower)).get(channel)
        return checkpoint.position if checkpoint else 0

    async def history(self) -> list[Recorded]:
        return [self.catalog.decode(record.state) for record in await self.stores["treasury"].read(0)]


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def founding() -> list[Fact]:
    pools = (Pool(name="treasury", share_ppm=900_000), Pool(name="ada", share_ppm=100_000, member="ada"))
    members = (
        registry.MemberRegistered(member, handle, "human", public_key(handle[:1].encode() * 32))
        for member, handle in ((ADA, "ada"), (BEN, "ben"))
    )
    return [registry.CommunityFounded(community(*pools), "00"), *members]


def closing(epoch: int, *scores: tuple[int, str, int]) -> list[Fact]:
    """Pages of two nodes each, and the closing fact."""
    nodes = [metering.NodeScore(node(one), owner, str(micro), "0", "0", "0", ()) for one, owner, micro in scores]
    pages = [nodes[start : start + 2] for start in range(0, len(nodes), 2)]
    totals = metering.EpochTotals(str(sum(micro for _, _, micro in scores)), "0", "0", "0", len(nodes))
    closed = metering.EpochClosed(epoch, 0, 1, "9", len(pages), "00", {"gpu": totals}, {})
    return [*(metering.EpochPaged(epoch, page, tuple(part)) for page, part in enumerate(pages)), closed]


SCORES = ((1, ADA, 5_000), (2, BEN, 3_000), (3, "member/" + "d" * 32, 2_000))


async def test_an_epoch_is_paid_from_metering_facts_alone() -> None:
    house = House()
    async with house.open():
        await house.say("registry", *founding())
        await house.say("metering", *closing(0, *SCORES))
        await house.say("metering", metering.LateUsageScored(0, 1, 0, 1, "10", (_late(4, BEN, 10),)))
        book = await house.settled()
    assert book.balances[ADA] == 100_000_000 + 490_000
    # Had it been in time: 980,000 x 3,000/10,010 and x 10/10,010, each rounded down. 294,000 came in time.
    assert book.balances[BEN] == 293_706 + 979
    assert book.balances["member/" + "d" * 32] == 196_000
    assert book.balances["late-reserve/0"] == 20_000 - 685
    settled = [recorded.fact for recorded in await house.history() if isinstance(recorded.fact, EpochSettled)]
    assert [(fact.paid, fact.gate) for fact in settled] == [("980000", "ungated")]


def _late(number: int, owner: str, micro: int) -> metering.NodeScore:
    return metering.NodeScore(node(number), owner, str(micro), "0", "0", "0", ())


async def test_followers_that_forgot_where_they_were_pay_nothing_twice() -> None:
    house = House()
    async with house.open():
        await house.say("registry", *founding())
        await house.say(
            "metering", *closing(0, *SCORES), metering.LateUsageScored(0, 1, 0, 1, "10", (_late(4, BEN, 10),))
        )
        before = await house.settled()
    records = len(await house.history())
    house.log.checkpoints.clear()
    async with house.open():
        assert await house.settled() == before
    assert len(await house.history()) == records


async def test_metering_may_be_followed_before_the_book_is_defined() -> None:
    house = House()
    async with house.open():
        await house.say("metering", *closing(0, *SCORES))
        await asyncio.sleep(0.1)
        assert await house.history() == []
        await house.say("registry", *founding())
        book = await house.settled()
    assert set(book.epochs.settled) == {(0, "gpu")}


async def test_an_incomplete_epoch_blocks_visibly_and_pays_nothing() -> None:
    house = House()
    async with house.open():
        await house.say("registry", *founding())
        page, *_, closed = closing(0, *SCORES)
        await house.say("metering", page, closed)
        async with asyncio.timeout(5):
            while not (alarms := await house.aside.alarms()):
                await asyncio.sleep(0.01)
        assert [(each.stream, each.error.partition(":")[0]) for each in alarms] == [("any", "ScoresIncomplete")]
        book: Book = house.appenders["treasury"].state
    assert not book.epochs.settled
    assert BEN not in book.balances or book.balances[BEN] == 0


class SlowAnchor:
    """A gate that makes its first askers wait."""

    def __init__(self) -> None:
        self.asked = 0

    def answer(self, service: str, position: int) -> GateAnswer | None:
        assert (service, position) == ("metering", 3)
        self.asked += 1
        return None if self.asked < 2 else "anchored"


async def test_rewards_wait_for_the_gate() -> None:
    house = House(SlowAnchor())
    async with house.open():
        await house.say("registry", *founding())
        await house.say("metering", *closing(0, *SCORES))
        await house.settled()
    settled = [recorded.fact for recorded in await house.history() if isinstance(recorded.fact, EpochSettled)]
    assert [fact.gate for fact in settled] == ["anchored"]


async def test_a_restart_folds_the_same_book() -> None:
    house = House()
    async with house.open():
        await house.say("registry", *founding())
        await house.say("metering", *closing(0, *SCORES))
        before = await house.settled()
        await house.appenders["treasury"].snapshot()
        await house.say("metering", *closing(1, *SCORES))
        after = await house.settled()
    from_snapshot, from_facts = house.appender(service(Ungated())), house.appender(service(Ungated()))
    await from_snapshot.load()
    house.log.snapshots.clear()
    await from_facts.load()
    assert from_snapshot.state == from_facts.state == after != before
