"""Turns a genesis document into the first facts of an empty instance, from the operator's own machine."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from events.genesis import Community
from events.registry import CommunityFounded
from infra.platform import Platform
from services.kernel.group import Request
from services.kernel.unit import Accepted
from services.registry.commands import FoundCommunity
from services.registry.genesis import canonical, founding_command_id

ACTOR = "operator/genesis"


async def founded(platform: Platform) -> CommunityFounded | None:
    """Return the first fact of this instance, or None while it is empty."""
    first = await platform.stores["registry"].read(0, 1)
    if not first:
        return None
    fact = platform.catalog.decode(first[0].state).fact
    assert isinstance(fact, CommunityFounded), "the registry's first fact founds the community"
    return fact


async def found(platform: Platform, community: Community) -> Accepted:
    """Record the founding; the same document again is a repetition. Raises the registry's refusals."""
    appender = platform.appenders["registry"]
    await appender.load()
    serving = asyncio.create_task(appender.run())
    try:
        request = Request(FoundCommunity(community), ACTOR, founding_command_id(community), canonical(community))
        (accepted,) = await appender.submit(request)
    finally:
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
    return accepted
