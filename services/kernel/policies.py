"""Runs policies: other services' facts become this service's commands, each exactly once in effect.

The checkpoint moves in the same transaction as the commands' facts, by compare-and-swap; a zombie rolls back. The
commands' ids derive from (fact id, policy, ordinal, attempt), so even a lost checkpoint decides nothing twice.

Policies follow their source in the order of its positions, on every bus: a genesis comes before what builds on it, an
epoch's pages before its closing, whatever streams they are in. They lose nothing by it: however many processes follow,
their commands pass the one lock of their own service.

A fact whose command is refused is tried again for a while, since what it builds on may be another policy's work. Then
it is parked with its stream, and the others go on; `services.kernel.replaying` tries parked facts again, in order.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Final

from eventsourcing.persistence import Notification

from events.bus import Bus, Follower, Page
from events.catalog import Catalog, UpgradeNeeded
from events.parked import Aside, Waiting, park, stream_of, told
from events.store import Checkpoint, CheckpointMoved, Move, StoreError, StoreFull, StoreUnavailable
from events.telemetry import Telemetry
from services.kernel.appender import Appender
from services.kernel.decider import Policy
from services.kernel.errors import CommonsError, DiskFull, Unavailable
from services.kernel.replaying import Replay, follower_of, requests_of

PATIENCE_SECONDS: Final = 5.0
"""How long a refused command is tried again before its fact is parked."""
REPLAY_SECONDS: Final = 60.0
"""How often parked facts are tried again by themselves."""

_LOG: Final = logging.getLogger(__name__)
_POLL_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 0.5


async def unhindered() -> bool:
    """Tell that nobody has ordered a pause."""
    return False


class PolicyRunner:
    """One policy of one service, following one source service."""

    def __init__(
        self,
        policy: Policy,
        appender: Appender[Any],
        bus: Bus,
        catalog: Catalog,
        aside: Aside,
        telemetry: Telemetry | None = None,
        *,
        hindered: Callable[[], Awaitable[bool]] = unhindered,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Take plain parts; `appender` and `aside` are those of the policy's own service.

        `hindered` tells, while a fact is tried again, whether the policy is to let go of it.
        """
        self.policy = policy
        self.name = follower_of(policy)
        self._appender = appender
        self._bus = bus
        self._catalog = catalog
        self._aside = aside
        self._telemetry = telemetry or Telemetry()
        self._hindered = hindered
        self._patience = patience_seconds
        self._follower = Follower(self.name, [policy.source], self._checkpoints, in_order=True)
        self._topics = {fact.TYPE for fact in policy.listens}
        self._blocked: dict[tuple[str, str], int] = {}
        self._replay_at = 0.0
        self._waits = False

    @property
    def service(self) -> str:
        """The service whose policy this is."""
        return self._appender.service.name

    async def run(self) -> None:
        """Follow for ever. Raises StoreRewound and UpgradeNeeded; waits out everything that passes."""
        while True:
            try:
                await self._follow()
            except (StoreUnavailable, StoreFull, Unavailable, DiskFull, CheckpointMoved) as error:
                _LOG.info("%s begins again: %s", self.name, error)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _checkpoints(self) -> Mapping[str, Checkpoint]:
        self._blocked = dict(await self._aside.blocked(self.name))
        return await self._appender.store.checkpoints(self.name)

    async def _follow(self) -> None:
        subscription = await self._bus.subscribe(self._follower)
        try:
            while True:
                page = await subscription.fetch(_POLL_SECONDS)
                if page is not None:
                    await self._react(page)
                if self._blocked and asyncio.get_running_loop().time() >= self._replay_at:
                    await self._replay()
        finally:
            await subscription.close()

    async def _react(self, page: Page) -> None:
        place = page.before
        for record in page.records:
            if record.topic in self._topics:
                place = await self._take(page, record, place)
        if place < page.last:
            # A policy that decides nothing still moves its position.
            await self._appender.store.move([Move(place, page.checkpoint(self.name))])
        self._telemetry.meter.count("commons_policy_facts", len(page.records), self.policy.name)

    async def _take(self, page: Page, record: Notification, before: int) -> int:
        """Let a fact take effect, or park it; return where the checkpoint stands then."""
        where = stream_of(record)
        digest = hashlib.sha256(record.state).digest()
        move = Move(before, Checkpoint(self.name, page.channel, record.id, digest))
        first = self._blocked.get(where)
        if first is not None and record.id >= first:
            waits = f"waits behind position {first} of its stream"
            fact = park(self.name, page.channel, record, waits, first=False)
            if await self._aside.park_behind(move, Waiting(fact, record.state)):
                return record.id
            del self._blocked[where]  # what it would have waited behind was replayed
        moved, error = await self._tried(page, record, move)
        if error is None:
            return record.id if moved else before
        fact = park(self.name, page.channel, record, told(error), first=True)
        await self._aside.park(move, Waiting(fact, record.state))
        self._blocked[where] = record.id
        self._replay_at = asyncio.get_running_loop().time() + REPLAY_SECONDS
        _LOG.error(
            "%s parks %s from position %d of %s on, other streams go on: %s. It is tried again every %.0f s, and at "
            "once by 'commons parked replay %s'",
            *(self.name, fact.stream, fact.position, fact.service, fact.error, REPLAY_SECONDS, self.policy.name),
        )
        return record.id

    async def _tried(self, page: Page, record: Notification, move: Move) -> tuple[bool, Exception | None]:
        """Submit what follows from a fact; tell whether there was anything, or why it is to be parked.

        What passes is waited for right here, without leaving the group. Raises what no fact is to blame for.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._patience
        while True:
            try:
                requests = requests_of(self.policy, self._catalog.decode(record.state))
                if requests:
                    with self._span(page, record):
                        await self._appender.submit(*requests, moves=[move])
            except (StoreError, UpgradeNeeded):
                raise
            except (Unavailable, DiskFull) as error:
                self._say_once(error)
            except CommonsError as refusal:
                if loop.time() >= deadline:
                    return False, refusal
                self._say_once(refusal)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this fact's
                _LOG.exception("%s cannot take position %d", self.name, record.id)
                return False, error
            else:
                self._waits = False
                return bool(requests), None
            await asyncio.sleep(_RETRY_SECONDS)
            if await self._hindered():
                raise Unavailable(f"{self.name} is to pause", retry_after_seconds=1)

    def _say_once(self, error: CommonsError) -> None:
        if not self._waits:
            _LOG.warning("%s waits: %s", self.name, error.detail)
        self._waits = True

    async def _replay(self) -> None:
        """Try parked facts again: what they need may be there now."""
        try:
            await Replay(self.policy, self._appender, self._catalog, self._aside).run()
        finally:
            self._replay_at = asyncio.get_running_loop().time() + REPLAY_SECONDS
        self._blocked = dict(await self._aside.blocked(self.name))

    def _span(self, page: Page, cause: Notification) -> AbstractContextManager[str]:
        """Return the span of what the policy makes of a fact: in the trace of the fact, where it has one."""
        trace = page.traces.get(cause.id)
        return self._telemetry.tracer.span(self.name, [trace] if trace else None, fact=cause.topic)
