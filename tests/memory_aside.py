"""What policies have parked, in memory: the promises of PostgreSQL but durability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from events.parked import Parked, Waiting
from events.store import Move, Store

_Key = tuple[str, str, int]


class MemoryAside:
    """Parked facts of one service's policies, beside the checkpoints of its store."""

    def __init__(self, store: Store) -> None:
        """Move checkpoints of `store`."""
        self._store = store
        self._kept: dict[_Key, Waiting] = {}

    async def blocked(self, follower: str) -> Mapping[tuple[str, str], int]:
        """Return the first parked position of every (service, stream) that has one."""
        return {(each.service, each.stream): each.position for each in self._of(follower) if each.first}

    async def park(self, move: Move, waiting: Waiting) -> None:
        """Set a fact aside and move the checkpoint beyond it."""
        await self._store.move([move])
        fact = waiting.fact
        self._kept.setdefault((fact.follower, fact.service, fact.position), waiting)

    async def park_behind(self, move: Move, waiting: Waiting) -> bool:
        """Set a fact aside and move the checkpoint, if another of its stream is parked still."""
        fact = waiting.fact
        if not any(_same_stream(each, fact) for each in self._of(fact.follower)):
            return False
        await self.park(move, waiting)
        return True

    async def parked(self, follower: str, after: tuple[str, int], limit: int) -> Sequence[Waiting]:
        """Return parked facts beyond `after` in order."""
        mine = [self._kept[key] for key in sorted(self._kept) if key[0] == follower and key[1:] > after]
        return mine[:limit]

    async def say(self, fact: Parked) -> None:
        """Say anew why a fact that is still parked blocks its stream."""
        self._change(fact, error=fact.error)

    async def release(self, fact: Parked) -> None:
        """Forget a parked fact; the first one left of its stream blocks the rest from now on."""
        self._kept.pop((fact.follower, fact.service, fact.position), None)
        left = [each for each in self._of(fact.follower) if _same_stream(each, fact)]
        if left:
            self._change(left[0], first=True)

    async def alarms(self) -> Sequence[Parked]:
        """Return the first parked fact of every stream of every policy."""
        return [self._kept[key].fact for key in sorted(self._kept) if self._kept[key].fact.first]

    async def counts(self) -> Mapping[str, int]:
        """Return how many facts each policy has parked, for those that have any."""
        return {follower: len(self._of(follower)) for follower in sorted({key[0] for key in self._kept})}

    def _of(self, follower: str) -> list[Parked]:
        return [self._kept[key].fact for key in sorted(self._kept) if key[0] == follower]

    def _change(self, fact: Parked, **fields: object) -> None:
        key = (fact.follower, fact.service, fact.position)
        if key in self._kept:
            kept = self._kept[key]
            self._kept[key] = replace(kept, fact=replace(kept.fact, **fields))  # type: ignore[arg-type] # names of ours


def _same_stream(one: Parked, other: Parked) -> bool:
    return (one.service, one.stream) == (other.service, other.stream)
