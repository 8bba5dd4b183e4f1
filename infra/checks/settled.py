"""Recounts every settled epoch from its facts: funded = paid + late reserve + kept, and late pay within its reserve."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from events import treasury
from events.envelope import Fact
from events.treasury import Posting
from infra.checks.check import Check


class SettledEpochs:
    """Told every fact of the treasury in order."""

    def __init__(self) -> None:
        """Begin before the first one."""
        self._funded: dict[int, int] = {}
        self._paid: dict[int, int] = defaultdict(int)
        self._late: dict[int, int] = {}
        self._faults: list[str] = []
        self._settled = 0

    def look(self, fact: Fact) -> None:
        """Take one fact into account."""
        match fact:
            case treasury.EpochPoolFunded():
                self._funded[fact.epoch] = int(fact.pool)
            case treasury.RewardsPaid():
                self._paid[fact.epoch] += _sum(fact.postings)
            case treasury.EpochSettled():
                self._settle(fact)
            case treasury.LateRewardsPaid() | treasury.LateReserveReleased():
                self._spend(fact.epoch, _sum(fact.postings))

    def check(self) -> Check:
        """Return what was found."""
        if self._faults:
            fix = "do not pay on: restore a backup of before, and compare the facts of these epochs"
            return Check("settled epochs", "broken", "; ".join(self._faults[:5]), fix)
        return Check("settled epochs", "ok", f"{self._settled:,} epochs, each pool accounted for to the base unit")

    def _settle(self, fact: treasury.EpochSettled) -> None:
        self._settled += 1
        pool, paid, reserve, kept = (int(text) for text in (fact.pool, fact.paid, fact.late_reserve, fact.kept))
        rules = {
            f"{paid} + {reserve} + {kept} is not its pool of {pool}": paid + reserve + kept == pool,
            f"its account got {self._funded.get(fact.epoch, 0)}, its pool is {pool}": (
                self._funded.pop(fact.epoch, 0) == pool
            ),
            f"its pages pay {self._paid[fact.epoch]}, it says {paid}": self._paid.pop(fact.epoch, 0) == paid,
        }
        self._late[fact.epoch] = reserve
        self._faults += [f"epoch {fact.epoch}: {words}" for words, holds in rules.items() if not holds]

    def _spend(self, epoch: int, amount: int) -> None:
        self._late[epoch] = self._late.get(epoch, 0) - amount
        if self._late[epoch] < 0:
            self._faults.append(f"epoch {epoch}: {-self._late[epoch]} more than its late reserve was paid")


def _sum(postings: Iterable[Posting]) -> int:
    return sum(int(posting.amount) for posting in postings)
