"""Recounts every settled epoch and kind from its facts.

Funded = paid + late reserve + kept, late pay within its reserve, and what ends of holdbacks within what was held.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from events import treasury
from events.envelope import Fact
from events.registry_terms import DeviceKind
from events.treasury import NodeReward, Posting
from infra.checks.check import Check

_Of = tuple[int, DeviceKind]
"""An epoch and kind, settled as a pool of its own."""


class SettledEpochs:
    """Told every fact of the treasury in order."""

    def __init__(self) -> None:
        """Begin before the first one."""
        self._funded: dict[_Of, int] = {}
        self._paid: dict[_Of, int] = defaultdict(int)
        self._late: dict[_Of, int] = {}
        self._held: dict[_Of, int] = defaultdict(int)
        self._faults: list[str] = []
        self._settled = 0

    def look(self, fact: Fact) -> None:
        """Take one fact into account."""
        match fact:
            case treasury.EpochPoolFunded():
                self._funded[_of(fact)] = int(fact.pool)
            case treasury.RewardsPaid():
                self._paid[_of(fact)] += _sum(fact.postings)
                self._held[_of(fact)] += _rewards(fact.held or ())
            case treasury.EpochSettled():
                self._settle(fact)
            case treasury.LateRewardsPaid():
                self._held[_of(fact)] += _rewards(fact.held or ())
                self._spend(_of(fact), _sum(fact.postings))
            case treasury.LateReserveReleased():
                self._spend(_of(fact), _sum(fact.postings))
            case treasury.HoldbackPaid() | treasury.HoldbackForfeitBooked():
                self._let_go((fact.epoch, fact.kind), _sum(fact.postings))

    def check(self) -> Check:
        """Return what was found."""
        if self._faults:
            fix = "do not pay on: restore a backup of before, and compare the facts of these epochs"
            return Check("settled epochs", "broken", "; ".join(self._faults[:5]), fix)
        return Check("settled epochs", "ok", f"{self._settled:,} epochs, each pool accounted for to the base unit")

    def _settle(self, fact: treasury.EpochSettled) -> None:
        self._settled += fact.kind is msgspec.UNSET  # every epoch settles its GPUs, whatever else
        of = _of(fact)
        pool, paid, reserve, kept = (int(text) for text in (fact.pool, fact.paid, fact.late_reserve, fact.kept))
        rules = {
            f"{paid} + {reserve} + {kept} is not its pool of {pool}": paid + reserve + kept == pool,
            f"its account got {self._funded.get(of, 0)}, its pool is {pool}": self._funded.pop(of, 0) == pool,
            f"its pages pay {self._paid[of]}, it says {paid}": self._paid.pop(of, 0) == paid,
        }
        self._late[of] = reserve
        self._faults += [f"epoch {_name(of)}: {words}" for words, holds in rules.items() if not holds]

    def _spend(self, of: _Of, amount: int) -> None:
        self._late[of] = self._late.get(of, 0) - amount
        if self._late[of] < 0:
            self._faults.append(f"epoch {_name(of)}: {-self._late[of]} more than its late reserve was paid")

    def _let_go(self, of: _Of, amount: int) -> None:
        self._held[of] -= amount
        if self._held[of] < 0:
            self._faults.append(f"epoch {_name(of)}: {-self._held[of]} more than was held back has ended")


def _of(fact: Any) -> _Of:
    return (fact.epoch, fact.kind or "gpu")


def _name(of: _Of) -> str:
    return str(of[0]) if of[1] == "gpu" else f"{of[0]} ({of[1]})"


def _rewards(held: Iterable[NodeReward]) -> int:
    return sum(int(one.amount) for one in held)


def _sum(postings: Iterable[Posting]) -> int:
    return sum(int(posting.amount) for posting in postings)
