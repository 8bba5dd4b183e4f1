"""Tries parked facts of a policy again, in order within each stream, beside the running policy.

Safe at any time and from several processes: the commands' ids derive from the fact, so what took effect already is
answered from its outcome, and a fact leaves the parked ones only after its effect is durable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from events.catalog import Catalog, Recorded, UpgradeNeeded
from events.parked import Aside, Parked, told
from events.store import StoreError
from services.kernel.appender import Appender
from services.kernel.decider import Policy
from services.kernel.errors import DiskFull, Unavailable
from services.kernel.group import Request

BATCH: Final = 200
"""Parked facts read at once."""


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """How many parked facts have taken effect now, and how many wait still, with why the first of each stream does."""

    policy: str
    replayed: int
    parked: int
    alarms: Sequence[Parked]


class Replay:
    """One replay of what one policy has parked."""

    def __init__(self, policy: Policy, appender: Appender[Any], catalog: Catalog, aside: Aside) -> None:
        """Submit through the appender of the policy's own service, which must be running."""
        self._policy = policy
        self._appender = appender
        self._catalog = catalog
        self._aside = aside

    async def run(self) -> ReplayReport:
        """Replay what can take effect. Raises Unavailable, DiskFull, StoreError, UpgradeNeeded; then the rest waits."""
        follower, after, done = follower_of(self._policy), ("", 0), 0
        stuck: set[tuple[str, str]] = set()
        while batch := await self._aside.parked(follower, after, BATCH):
            for waiting in batch:
                fact = waiting.fact
                if (fact.service, fact.stream) in stuck:
                    continue
                error = await self._again(waiting.record)
                if error is None:
                    await self._aside.release(fact)
                    done += 1
                else:
                    await self._aside.say(replace(fact, error=told(error)))
                    stuck.add((fact.service, fact.stream))
            after = (batch[-1].fact.service, batch[-1].fact.position)
        left = (await self._aside.counts()).get(follower, 0)
        alarms = [each for each in await self._aside.alarms() if each.follower == follower]
        return ReplayReport(self._policy.name, done, left, alarms)

    async def _again(self, record: bytes) -> Exception | None:
        try:
            requests = requests_of(self._policy, self._catalog.decode(record))
            if requests:
                await self._appender.submit(*requests)
        except (StoreError, Unavailable, DiskFull, UpgradeNeeded):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this fact's
            return error
        return None


def follower_of(policy: Policy) -> str:
    """Return the name a policy's checkpoints and parked facts stand under."""
    return f"policy/{policy.name}"


def requests_of(policy: Policy, recorded: Recorded) -> Sequence[Request]:
    """Return the commands that a policy makes of a fact, each with its derived id."""
    return [
        Request(
            command,
            follower_of(policy),
            command_id(recorded.id, policy.name, ordinal),
            recorded.id.encode(),
            causation_id=recorded.id,
            correlation_id=recorded.id,
        )
        for ordinal, command in enumerate(policy.react(recorded))
    ]


def command_id(fact_id: str, policy: str, ordinal: int, attempt: int = 0) -> str:
    """Return the command id a policy's command has: SHA-256 over its cause, name, ordinal and attempt, hex."""
    return hashlib.sha256(f"{fact_id}\0{policy}\0{ordinal}\0{attempt}".encode()).hexdigest()
