"""The bus `tail:`: followers read the stores themselves, one channel per service, the offset is the position.

Followers of one process mostly stand at the same place, so the last page read of each service is kept and shared:
seven views and three policies then cost one query instead of ten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from eventsourcing.persistence import Notification

from events.bus import Follower, OtherBus, Page
from events.channels import service_of
from events.store import Store, verify_checkpoint


class _Tail:
    """The end of one service's records, shared by the subscriptions of a process."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = asyncio.Lock()
        self._after = 0
        self._records: Sequence[Notification] = ()

    def forget(self) -> None:
        """Drop the kept page: the store may have been restored since it was read."""
        self._after, self._records = 0, ()

    async def read(self, after: int) -> Sequence[Notification]:
        """Return a page after `after`, empty at the end."""
        if kept := self._kept(after):
            return kept
        if after < self._after:
            return await self.store.read(after)  # far behind the others: its pages are of no use to them
        async with self._lock:
            if kept := self._kept(after):
                return kept
            records = await self.store.read(after)
            if records:
                self._after, self._records = after, records
            return records

    def _kept(self, after: int) -> Sequence[Notification]:
        if after < self._after:
            return ()
        return self._records[after - self._after :]  # positions have no hole


class TailSubscription:
    """A follower's place in the stores of some services; pages come from them in turn."""

    def __init__(self, tails: Mapping[str, _Tail], positions: Mapping[str, int]) -> None:
        """Continue after `positions`."""
        self._tails = tails
        self._positions = dict(positions)
        self._turns = list(tails)
        self._ready = set(tails)

    async def fetch(self, timeout_seconds: float) -> Page | None:
        """Return the next page of some service, waiting for one when there is none yet."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        while True:
            for service in list(self._turns):
                if service in self._ready and (page := await self._read(service)):
                    return page
            left = deadline - loop.time()
            if left <= 0 or not await self._wait(left):
                return None

    async def _read(self, service: str) -> Page | None:
        self._turns.remove(service)
        self._turns.append(service)  # so that one busy service does not starve the others
        before = self._positions[service]
        records = await self._tails[service].read(before)
        if not records:
            self._ready.discard(service)
            return None
        last = records[-1].id
        self._positions[service] = last
        return Page(service, before, last, records)

    async def _wait(self, timeout_seconds: float) -> bool:
        """Wait until some service has news; False when the time is over."""
        waits = {
            asyncio.ensure_future(tail.store.wait(self._positions[service], timeout_seconds)): service
            for service, tail in self._tails.items()
        }
        try:
            pending = set(waits)
            while pending and not self._ready:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                self._ready.update(waits[wait] for wait in done if wait.result())
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
        return bool(self._ready)

    async def lag(self) -> Mapping[str, int]:
        """Return how many records each service still holds for this subscription."""
        heads = {service: (await tail.store.head()).position for service, tail in self._tails.items()}
        return {service: max(head - self._positions[service], 0) for service, head in heads.items()}

    async def close(self) -> None:
        """Hold nothing, so there is nothing to give back."""


class TailBus:
    """Follows stores directly."""

    def __init__(self, stores: Mapping[str, Store]) -> None:
        """Follow `stores`, by service name."""
        self._tails = {service: _Tail(store) for service, store in stores.items()}

    async def subscribe(self, follower: Follower) -> TailSubscription:
        """Return a subscription after the follower's checkpoints.

        Raises StoreRewound when a checkpoint's record is gone or another, OtherBus when partitions were followed.
        """
        start = await follower.checkpoints()
        tails = {service: self._tails[service] for service in follower.services}
        for channel in start:
            if channel not in tails and service_of(channel) in tails:
                raise OtherBus(f"{follower.name} has followed {channel}: it cannot go on along the stores themselves")
        for service, tail in tails.items():
            tail.forget()
            if service in start:
                await verify_checkpoint(tail.store, start[service])
        return TailSubscription(tails, {name: start[name].position if name in start else 0 for name in tails})
