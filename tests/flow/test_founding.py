"""A founding through the real command path: one commit, one origin, once; the directory equals the registry's state."""

from __future__ import annotations

import asyncio

import pytest

from events.envelope import decode_envelope, encode_envelope
from events.facts import catalog
from infra.memory import MemoryStore
from services.kernel.appender import Appender
from services.kernel.feed import DirectoryFeed
from services.kernel.group import Request
from services.registry.commands import FoundCommunity
from services.registry.errors import AlreadyFounded
from services.registry.genesis import FOUNDER, canonical, founding_command_id
from services.registry.service import service
from tests.registry_world import community


async def test_a_founding_is_one_commit_of_one_origin_and_happens_once() -> None:
    store, known = MemoryStore("registry"), catalog()
    feed = DirectoryFeed(store, known)
    appender = Appender(service(), store, known, feed.current, b"key")
    await appender.load()
    running = asyncio.create_task(appender.run())
    try:
        (first,) = await appender.submit(founding("The demo commons"))
        (again,) = await appender.submit(founding("The demo commons"))
        with pytest.raises(AlreadyFounded):
            await appender.submit(founding("Another"))
    finally:
        running.cancel()
    records = [record.state for record in await store.read(0)]
    assert (first.first, first.last) == (again.first, again.last) == (1, len(records))
    assert (first.hit, again.hit) == (False, True)
    assert {decode_envelope(record).source for record in records} == {"demo.commons.example/registry"}
    assert all(encode_envelope(decode_envelope(record)) == record for record in records)
    assert len({decode_envelope(record).time for record in records}) == 1
    assert await feed.current() == appender.state


def founding(name: str) -> Request:
    document = community(name=name)
    return Request(FoundCommunity(document), FOUNDER, founding_command_id(document), canonical(document))
