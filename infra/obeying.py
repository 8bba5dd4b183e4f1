"""A bus around the bus whose followers do as they are ordered: rest, go on, begin again where they were sent back to.

A follower that rests has left its group and holds no channel. Whoever stops a process lets its followers come to
rest first: the page at hand takes effect, no other is handed out, and every group is left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from events.bus import Bus, Follower, Page, Subscription
from infra.postgres.orders import Order

DRAIN_SECONDS: Final = 10.0
"""How long pages at hand may take when a process stops."""


Forget = Callable[["ObeyingSubscription"], None]


class Orders(Protocol):
    """Knows what followers were ordered to do."""

    async def of(self, follower: str, /) -> Order:
        """Return the order of a follower. Raises StoreUnavailable."""
        ...


class ObeyingBus:
    """Hands out subscriptions that look at their follower's order before every page."""

    def __init__(self, bus: Bus, orders: Orders) -> None:
        """Take the bus to follow and who knows the orders."""
        self._bus = bus
        self._orders = orders
        self._open: set[ObeyingSubscription] = set()
        self.stopping = asyncio.Event()

    async def subscribe(self, follower: Follower) -> ObeyingSubscription:
        """Return a subscription; a follower that is to rest joins no group. Raises what the bus within raises."""
        subscription = ObeyingSubscription(self._bus, follower, self._orders, self.stopping, self._open.discard)
        self._open.add(subscription)
        try:
            await subscription.look()
        except BaseException:
            await subscription.close()
            raise
        return subscription

    async def hindered(self, follower: str) -> bool:
        """Tell whether a follower is to let go of what it is about."""
        return self.stopping.is_set() or (await self._orders.of(follower)).paused

    async def drain(self, seconds: float = DRAIN_SECONDS) -> bool:
        """Hand out no more pages, let those at hand take effect, leave all groups; tell whether it was in time."""
        self.stopping.set()
        waits = [asyncio.ensure_future(each.closed.wait()) for each in self._open]
        if not waits:
            return True
        _, late = await asyncio.wait(waits, timeout=seconds)
        for wait in late:
            wait.cancel()
        return not late


class ObeyingSubscription:
    """A follower's place, held only while the follower is not to rest."""

    def __init__(self, bus: Bus, follower: Follower, orders: Orders, stopping: asyncio.Event, forget: Forget) -> None:
        """Subscribe within `bus` when it is time; tell `forget` at the end."""
        self._bus = bus
        self._follower = follower
        self._orders = orders
        self._stopping = stopping
        self._within: Subscription | None = None
        self._rewound = 0
        self._forget = forget
        self.closed = asyncio.Event()

    async def look(self) -> bool:
        """Do what is ordered; tell whether pages may come."""
        order = await self._orders.of(self._follower.name)
        if order.paused or order.rewound != self._rewound:
            await self._leave()
        self._rewound = order.rewound
        if order.paused or self._stopping.is_set():
            return False
        if self._within is None:
            self._within = await self._bus.subscribe(self._follower)
        return True

    async def fetch(self, timeout_seconds: float) -> Page | None:
        """Return the next page; none while the follower is to rest, and none any more once the process stops."""
        page: Page | None = None
        if await self.look() and self._within is not None:
            page = await self._within.fetch(timeout_seconds)
        elif not self._stopping.is_set():
            await asyncio.sleep(timeout_seconds)
        if self._stopping.is_set():
            await self.close()
            await asyncio.Event().wait()  # until it is cancelled
        return page

    async def lag(self) -> Mapping[str, int]:
        """Return how many records each channel still holds; none while the follower rests."""
        return await self._within.lag() if self._within is not None else {}

    async def close(self) -> None:
        """Give the channels to others."""
        try:
            await self._leave()
        finally:
            self._forget(self)
            self.closed.set()

    async def _leave(self) -> None:
        within, self._within = self._within, None
        if within is not None:
            await within.close()
