"""Says once that the brokers are away and once that they are back, for all followers of a process together.

A client that has joined its group tells nobody that its brokers are gone: it tries again by itself, and nothing
comes. So while nothing comes somebody knocks, every few seconds and not once per follower.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Final

from events.bus import Page, Subscription
from infra.kafka.topics import BrokersAway

KNOCK_SECONDS: Final = 3.0
"""At most this often, and at most this long, somebody knocks."""
_LOG: Final = logging.getLogger(__name__)


class Outage:
    """What one process knows of its brokers."""

    def __init__(self, bootstrap: str) -> None:
        """Knock at these addresses."""
        self._addresses = [address.rpartition(":") for address in bootstrap.split(",")]
        self._away = False
        self._knocked = 0.0

    def tell(self, *, away: bool, why: str = "") -> None:
        """Say it if it is new."""
        if away and not self._away:
            _LOG.warning("the brokers are away, followers wait: %s", why)
        if self._away and not away:
            _LOG.warning("the brokers are back")
        self._away = away

    async def look(self) -> None:
        """Knock, if nobody did a moment ago."""
        if time.monotonic() < self._knocked + KNOCK_SECONDS:
            return
        self._knocked = time.monotonic()
        heard = await asyncio.gather(*(_answers(host, int(port)) for host, _, port in self._addresses))
        self.tell(away=not any(heard), why="none of their addresses answers")


async def _answers(host: str, port: int) -> bool:
    try:
        async with asyncio.timeout(KNOCK_SECONDS):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


class WatchedSubscription:
    """A follower's place, whose silence is looked into."""

    def __init__(self, within: Subscription, outage: Outage) -> None:
        """Wrap a subscription."""
        self._within = within
        self._outage = outage

    async def fetch(self, timeout_seconds: float) -> Page | None:
        """Return the next page; see the port."""
        try:
            page = await self._within.fetch(timeout_seconds)
        except BrokersAway as error:
            self._outage.tell(away=True, why=str(error))
            raise
        if page is None:
            await self._outage.look()
        return page

    async def lag(self) -> Mapping[str, int]:
        """Return how many records each channel still holds."""
        return await self._within.lag()

    async def close(self) -> None:
        """Give the channels to others."""
        await self._within.close()
