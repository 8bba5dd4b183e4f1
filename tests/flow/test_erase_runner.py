"""The follower of erasures: a key store that fails is asked again, and nothing moves on before it is done."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence

import pytest
from eventsourcing.persistence import StoredEvent

from events.envelope import Draft, Fact, encode_data, fact_id, open_record, seal_record
from events.facts import catalog
from events.registry import ProfileSealed, SubjectErased
from events.store import CheckpointMoved, Store, StoreUnavailable
from infra.memory import MemoryStore
from infra.subject_keys import MemorySubjectKeys
from infra.tail import TailBus
from services.registry.erasing import FOLLOWER, EraseRunner
from tests.followers import follower

ADA, BEN = (f"member/{digit * 32}" for digit in "ab")
NOW = "2026-11-20T12:00:00.000000Z"


class FailingKeys(MemorySubjectKeys):
    """A key store whose database is away for the first attempts."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    async def destroy(self, subjects: Sequence[str]) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("the database is away")
        await super().destroy(subjects)


async def record(store: Store, *facts: Fact) -> None:
    events = []
    for version, fact in enumerate(facts, 1):
        draft = Draft(fact_id(bytes(32), version), "test/registry", fact.TYPE, ADA, encode_data(fact))
        events.append(StoredEvent(ADA, version, fact.TYPE, open_record(draft)))
    async with store.session() as session:
        await session.append(
            events, seal=lambda event, at, _us: seal_record(event.state, event.originator_version, NOW, at)
        )


@contextlib.asynccontextmanager
async def running(runner: EraseRunner) -> AsyncIterator[None]:
    task = asyncio.create_task(runner.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def reached(store: Store, position: int) -> None:
    async with asyncio.timeout(10):
        while (points := await store.checkpoints(FOLLOWER)).get("registry") is None or points[
            "registry"
        ].position < position:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("failures", [0, 2])
async def test_an_erasure_is_retried_until_the_key_is_destroyed(failures: int) -> None:
    store, keys = MemoryStore("registry"), FailingKeys(failures)
    await keys.create(ADA)
    ben = await keys.create(BEN)
    await record(store, ProfileSealed(ADA, {"name": "x"}, "jws"), SubjectErased(ADA, "jws"))
    async with running(EraseRunner(keys, store, TailBus({"registry": store}), catalog())):
        await reached(store, 2)
    assert keys.failures == 0
    assert await keys.living() == {BEN: ben}


async def test_a_lost_checkpoint_destroys_again_and_harms_nobody() -> None:
    store, keys = MemoryStore("registry"), MemorySubjectKeys()
    await record(store, SubjectErased(ADA, "jws"), SubjectErased(BEN, None, "a ruling"))
    for _ in range(2):
        runner = EraseRunner(keys, store, TailBus({"registry": store}), catalog())
        subscription = await TailBus({"registry": store}).subscribe(follower(["registry"]))
        page = await subscription.fetch(1)
        assert page is not None
        with contextlib.suppress(CheckpointMoved):
            await runner.take(page)
    assert await keys.living() == {}
    assert (await store.checkpoints(FOLLOWER))["registry"].position == 2
