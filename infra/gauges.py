"""What `/metrics` tells of states, looked at when it is asked: queues, spools, and how far followers are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from events.store import StoreError
from infra.following import followers, relay_places
from infra.platform import Platform
from infra.telemetry.numbers import Key
from services.metering.state import Metering

PATIENCE_SECONDS: Final = 5.0
"""How long the database may take; after that the answer comes without what lies there."""


async def gauges(platform: Platform) -> Mapping[Key, int]:
    """Return the gauges of one process; those that lie in the database are missing while it is away."""
    found: dict[Key, int] = {
        ("commons_queue_commands", (name,)): appender.waiting for name, appender in platform.appenders.items()
    }
    metering: Metering = platform.appenders["metering"].state
    spools = [spool for hours in metering.spools.values() for spool in hours.values()]
    found["commons_spool_hours_open", ()] = len(spools)
    found["commons_spool_parts_waiting", ()] = sum(len(spool.here) for spool in spools)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for each in await followers(platform):
                found["commons_follower_lag_facts", (each.follower, each.channel)] = each.behind
                kind = "view" if each.follower.startswith("view/") else "policy"
                found[f"commons_{kind}_parked_facts", (each.follower,)] = each.parked
            for relay in await relay_places(platform):
                found["commons_relay_position", (relay.service,)] = relay.position
                found["commons_relay_lag_facts", (relay.service,)] = relay.behind
    except (StoreError, TimeoutError):
        pass
    return found
