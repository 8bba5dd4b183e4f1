"""Facts that went back to an older state: every follower that has seen more stops, and says how to go on."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from events.facts import catalog
from events.store import Checkpoint, Head, Move, StoreRewound
from infra.memory import MemoryLog, MemoryStore
from infra.memory_views import MemoryViews
from infra.platform import services
from infra.subject_keys import MemorySubjectKeys
from infra.tail import TailBus
from projections.catalog import views
from projections.rebuild import Rebuild
from projections.runner import ViewRunner
from projections.view import View
from services.kernel.appender import Appender
from services.kernel.decider import Policy
from services.kernel.feed import DirectoryFeed
from services.kernel.policies import PolicyRunner
from services.registry.erasing import FOLLOWER, SOURCE, EraseRunner
from tests import last_release
from tests.memory_aside import MemoryAside

POLICIES = [(name, policy) for name, service in services().items() for policy in service.policies]


def name_of(given: Any) -> str:
    return str(getattr(given, "name", given))


def back(stores: Mapping[str, MemoryStore], service: str) -> dict[str, MemoryStore]:
    """The same stores after one of them went back by a third; what is kept beside the facts of the others stays."""
    log = stores[service]._log
    records = log.records[: len(log.records) * 2 // 3]
    older = MemoryLog(records=records, head=Head(len(records), 0, b"\x01" * 32))
    return {**stores, service: MemoryStore(service, log=older)}


async def stops(run: Any, follower: str, advice: str) -> None:
    with pytest.raises(StoreRewound, match=advice) as stopped:
        await asyncio.wait_for(run, 10)
    assert stopped.value.checkpoint.follower == follower


def at_head(stores: Mapping[str, MemoryStore], follower: str, service: str) -> Move:
    head = stores[service]._log.head
    return Move(0, Checkpoint(follower, service, head.position, head.record_hash))


@pytest.mark.parametrize("view", views(), ids=name_of)
async def test_every_view_stops_whichever_of_its_services_went_back_and_a_rebuild_lets_it_go_on(view: View) -> None:
    for service in view.services:
        stores, kept = last_release.in_memory(), MemoryViews()
        await kept.prepare(view)
        await Rebuild(view, kept, stores, catalog()).run()
        older = back(stores, service)
        runner = ViewRunner(view, kept, TailBus(older), catalog())
        await stops(runner.run(), view.follower, f"commons rebuild {view.name}")
        await Rebuild(view, kept, older, catalog()).run()
        await runner.subscribe()


@pytest.mark.parametrize(("owner", "policy"), POLICIES, ids=name_of)
async def test_every_policy_stops_when_only_what_it_follows_went_back(owner: str, policy: Policy) -> None:
    stores = last_release.in_memory()
    await stores[owner].move([at_head(stores, f"policy/{policy.name}", policy.source)])
    older = back(stores, policy.source)
    feed = DirectoryFeed(older["registry"], catalog())
    appender = Appender(services()[owner], older[owner], catalog(), feed.current, b"k" * 32)
    runner = PolicyRunner(policy, appender, TailBus(older), catalog(), MemoryAside(older[owner]))
    await stops(runner.run(), f"policy/{policy.name}", "restore all services of one backup")


async def test_the_follower_that_destroys_keys_stops_too() -> None:
    stores = last_release.in_memory()
    older = back(stores, SOURCE)
    await older[SOURCE].move([at_head(stores, FOLLOWER, SOURCE)])
    runner = EraseRunner(MemorySubjectKeys(), older[SOURCE], TailBus(older), catalog())
    await stops(runner.run(), FOLLOWER, "restore all services of one backup")


@pytest.mark.parametrize("name", list(services()))
async def test_every_writer_stops_under_which_the_facts_went_back(name: str) -> None:
    stores = last_release.in_memory()
    feed = DirectoryFeed(stores["registry"], catalog())
    appender = Appender(services()[name], stores[name], catalog(), feed.current, b"k" * 32)
    await appender.load()
    log = stores[name]._log
    del log.records[len(log.records) * 2 // 3 :]
    log.head = Head(len(log.records), 0, b"\x01" * 32)
    await stops(appender.refresh(), f"writer of {name}", "Start again once the restored state is accepted")
