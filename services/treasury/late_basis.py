"""What a settled epoch remembers until its late reserve is released: what each owner scored in it, and was paid.

Being late never pays (docs/decisions/0007): in all, late pay brings an owner at most to what the same usage would
have earned in time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from immutables import Map

from events.treasury import ScoredNode
from services.treasury.shares import earnable


@dataclass(frozen=True, slots=True)
class ScorePage:
    """A page of scores that waits for the others of its epoch."""

    page_fact: str
    scores: tuple[ScoredNode, ...]


@dataclass(frozen=True, slots=True)
class Earned:
    """An owner in an epoch: base units paid so far, and micro-rGPUh, in time and late, of each node that has any."""

    paid: int = 0
    late: int = 0
    scores: Map[str, int] = Map()


@dataclass(frozen=True, slots=True)
class LateBasis:
    """All owners of an epoch. Usage in time could earn `available` base units at most, and the rate cap.

    `in_time` and `late` are micro-rGPUh of all owners. `noted` holds late pages, by the epoch whose close scored
    them, until the last of them is there; `counted` names those closes that are complete.
    """

    available: int
    rate_cap_per_rgpu_hour: int
    in_time: int = 0
    late: int = 0
    owners: Map[str, Earned] = Map()
    noted: Map[int, Map[int, ScorePage]] = Map()
    counted: frozenset[int] = frozenset()

    def room(self, owner: str) -> int:
        """Return the base units late pay may still bring an owner; late scores are counted already.

        The owner's usage, all of it in time, would have earned at least this more, whether the others' late usage
        had been in time as well or not.
        """
        earned = self.owners[owner]
        wholes = {self.in_time + earned.late, self.in_time + self.late}
        return max(0, min(self._least(earned.scores, whole) for whole in wholes) - earned.paid)

    def _least(self, scores: Mapping[str, int], whole: int) -> int:
        """Return what nodes with these scores would have earned together in time, had the epoch scored `whole`."""
        payable = earnable(self.available, whole, self.rate_cap_per_rgpu_hour)
        return sum(payable * score // whole for score in scores.values())


def in_time(
    available: int, rate_cap_per_rgpu_hour: int, pages: Iterable[ScorePage], paid: Mapping[str, int]
) -> LateBasis:
    """Return the basis of an epoch that was just settled: its pages, and what it paid each owner."""
    basis = _with_scores(LateBasis(available, rate_cap_per_rgpu_hour), pages, late=False)
    return with_paid(basis, paid.items())


def with_page(basis: LateBasis, scored_in: int, page: int, pages: int, noted: ScorePage) -> LateBasis:
    """Return the basis after a late page; the last of `pages` counts them all."""
    known = basis.noted.get(scored_in, Map()).set(page, noted)
    if len(known) < pages:
        return replace(basis, noted=basis.noted.set(scored_in, known))
    rest = basis.noted.delete(scored_in) if scored_in in basis.noted else basis.noted
    basis = replace(basis, noted=rest, counted=basis.counted | {scored_in})
    return _with_scores(basis, known.values(), late=True)


def with_paid(basis: LateBasis, payments: Iterable[tuple[str, int]]) -> LateBasis:
    """Return the basis after payments of base units to owners."""
    owners = basis.owners.mutate()
    for owner, amount in payments:
        earned = owners.get(owner, Earned())
        owners[owner] = replace(earned, paid=earned.paid + amount)
    return replace(basis, owners=owners.finish())


def _with_scores(basis: LateBasis, pages: Iterable[ScorePage], *, late: bool) -> LateBasis:
    owners, whole = basis.owners.mutate(), 0
    for node in (node for page in pages for node in page.scores):
        score = int(node.micro_rgpu_hours)
        if score:
            earned = owners.get(node.owner, Earned())
            scores = earned.scores.set(node.node, earned.scores.get(node.node, 0) + score)
            owners[node.owner] = Earned(earned.paid, earned.late + (score if late else 0), scores)
            whole += score
    basis = replace(basis, owners=owners.finish())
    return replace(basis, late=basis.late + whole) if late else replace(basis, in_time=basis.in_time + whole)
