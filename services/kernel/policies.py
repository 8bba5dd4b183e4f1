"""Runs policies: other services' facts become this service's commands, each exactly once in effect.

The checkpoint moves in the same transaction as the commands' facts, by compare-and-swap; a zombie rolls back. The
commands' ids derive from (fact id, policy, ordinal, attempt), so even a lost checkpoint decides nothing twice.

Policies follow their source in the order of its positions, on every bus: a genesis comes before what builds on it, an
epoch's pages before its closing, whatever streams they are in. They lose nothing by it: however many processes follow,
their commands pass the one lock of their own service.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final

from eventsourcing.persistence import Notification

from events.bus import Bus, Follower, Page
from events.catalog import Catalog, Recorded
from events.store import Checkpoint, CheckpointMoved, Move, StoreUnavailable
from events.telemetry import Telemetry
from services.kernel.appender import Appender
from services.kernel.decider import Policy
from services.kernel.errors import CommonsError, Unavailable
from services.kernel.group import Request

_LOG: Final = logging.getLogger(__name__)
_POLL_SECONDS: Final = 1.0
_RETRY_SECONDS: Final = 1.0


class PolicyRunner:
    """One policy of one service, following one source service."""

    def __init__(
        self,
        policy: Policy,
        appender: Appender[Any],
        bus: Bus,
        catalog: Catalog,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Take plain parts; `appender` is the one of the policy's own service."""
        self.policy = policy
        self.name = f"policy/{policy.name}"
        self._appender = appender
        self._bus = bus
        self._catalog = catalog
        self._telemetry = telemetry or Telemetry()
        self._follower = Follower(self.name, [policy.source], self._checkpoints, in_order=True)
        self._topics = {fact.TYPE for fact in policy.listens}
        self.blocked: CommonsError | None = None
        """The refusal this policy is stuck on, for health and lag; None while it flows."""

    async def run(self) -> None:
        """Follow for ever. Raises StoreRewound and UpgradeNeeded; waits out everything that passes."""
        while True:
            try:
                await self._follow()
            except (StoreUnavailable, Unavailable, CheckpointMoved) as error:
                _LOG.info("%s waits: %s", self.name, error)
            except CommonsError as refusal:
                self.blocked = refusal
                _LOG.error("%s is refused and waits: %s", self.name, refusal.detail)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _checkpoints(self) -> Mapping[str, Checkpoint]:
        return await self._appender.store.checkpoints(self.name)

    async def _follow(self) -> None:
        subscription = await self._bus.subscribe(self._follower)
        try:
            while True:
                page = await subscription.fetch(_POLL_SECONDS)
                if page is not None:
                    await self._react(page)
                    self.blocked = None
        finally:
            await subscription.close()

    async def _react(self, page: Page) -> None:
        before = page.before
        for notification in page.records:
            if notification.topic not in self._topics:
                continue
            recorded = self._catalog.decode(notification.state)
            requests = self._requests(recorded)
            if requests:
                move = Move(before, self._checkpoint(page.channel, notification))
                with self._span(page, notification):
                    await self._appender.submit(*requests, moves=[move])
                before = notification.id
        if before < page.last:
            # A policy that decides nothing still moves its position.
            await self._appender.store.move([Move(before, page.checkpoint(self.name))])
        self._telemetry.meter.count("commons_policy_facts", len(page.records), self.policy.name)

    def _span(self, page: Page, cause: Notification) -> AbstractContextManager[str]:
        """Return the span of what the policy makes of a fact: in the trace of the fact, where it has one."""
        trace = page.traces.get(cause.id)
        return self._telemetry.tracer.span(self.name, [trace] if trace else None, fact=cause.topic)

    def _requests(self, recorded: Recorded) -> Sequence[Request]:
        return [
            Request(
                command,
                self.name,
                command_id(recorded.id, self.policy.name, ordinal),
                recorded.id.encode(),
                causation_id=recorded.id,
                correlation_id=recorded.id,
            )
            for ordinal, command in enumerate(self.policy.react(recorded))
        ]

    def _checkpoint(self, channel: str, notification: Notification) -> Checkpoint:
        return Checkpoint(self.name, channel, notification.id, hashlib.sha256(notification.state).digest())


def command_id(fact_id: str, policy: str, ordinal: int, attempt: int = 0) -> str:
    """Return the command id a policy's command has: SHA-256 over its cause, name, ordinal and attempt, hex."""
    return hashlib.sha256(f"{fact_id}\0{policy}\0{ordinal}\0{attempt}".encode()).hexdigest()
