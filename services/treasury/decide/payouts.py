"""Payouts of rewards: who gets what now, what waits on the epoch's holdback account, and the postings of it all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from events.envelope import Fact
from events.registry_terms import DeviceKind
from events.treasury import AccountOpened, NodeReward, Posting
from services.treasury import names
from services.treasury.decide.transactions import MAX_POSTINGS
from services.treasury.holdback import Holds, Parts, divided

T = TypeVar("T")

PAGE: Final = MAX_POSTINGS - 2
"""Payouts of a page where some of them are held: two postings more bring that to its accounts."""


@dataclass(frozen=True, slots=True)
class Payout:
    """What one node earned, the account of its owner, and how it is divided."""

    node: str
    account: str
    parts: Parts

    @property
    def amount(self) -> int:
        """What it earned, in base units."""
        return self.parts.paid + self.parts.held + self.parts.forfeited


@dataclass(frozen=True, slots=True)
class Page:
    """The content of a fact that pays: a posting for each of `nodes`, then one for what is held, one for forfeits."""

    nodes: tuple[str, ...]
    postings: tuple[Posting, ...]
    held: tuple[NodeReward, ...]
    forfeited: tuple[NodeReward, ...]


@dataclass(slots=True)
class Opened:
    """The accounts there are, with those the facts of this decision open."""

    accounts: Mapping[str, object]
    new: set[str] = field(default_factory=set)

    def open(self, account: AccountOpened) -> Iterator[Fact]:
        """Yield an opening unless the account is there."""
        if account.account not in self.accounts and account.account not in self.new:
            self.new.add(account.account)
            yield account


def payouts_of(
    earned: Iterable[tuple[str, str, int]], holds: Holds, kind: DeviceKind, holdback_ppm: int
) -> list[Payout]:
    """Divide what each (node, owner) earned, leaving out those that come to 0."""
    return [
        Payout(node, owner, divided(holds.get((kind, node)), amount, holdback_ppm))
        for node, owner, amount in earned
        if amount
    ]


def openings(payouts: Sequence[Payout], opened: Opened, epoch: int, holdback_ppm: int) -> Iterator[Fact]:
    """Yield the openings of what is missing: owners' accounts, and those that hold back or take forfeits."""
    for payout in payouts:
        yield from opened.open(AccountOpened(payout.account, payout.account, "member"))
    # From the first reward on, even where so little is held that it comes to 0.
    if holdback_ppm and payouts:
        yield from opened.open(AccountOpened(names.holdback(epoch), names.COMMUNITY, "escrow"))
    if any(payout.parts.forfeited for payout in payouts):
        yield from opened.open(AccountOpened(names.FORFEITS, names.COMMUNITY, "treasury"))


def pages(payouts: Sequence[Payout], source: str, epoch: int, holdback_ppm: int) -> Iterator[Page]:
    """Yield payouts from an account page by page."""
    for part in chunks(payouts, PAGE if holdback_ppm else MAX_POSTINGS):
        paid = [payout for payout in part if payout.parts.paid]
        held = _rewards((payout, payout.parts.held) for payout in part)
        forfeited = _rewards((payout, payout.parts.forfeited) for payout in part)
        postings = [Posting(source, payout.account, str(payout.parts.paid)) for payout in paid]
        postings += _sum(source, names.holdback(epoch), held)
        postings += _sum(source, names.FORFEITS, forfeited)
        yield Page(tuple(payout.node for payout in paid), tuple(postings), held, forfeited)


def _rewards(of: Iterable[tuple[Payout, int]]) -> tuple[NodeReward, ...]:
    return tuple(NodeReward(payout.node, payout.account, str(amount)) for payout, amount in of if amount)


def _sum(source: str, account: str, rewards: Sequence[NodeReward]) -> Iterator[Posting]:
    if rewards:
        yield Posting(source, account, str(sum(int(reward.amount) for reward in rewards)))


def chunks(of: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield a sequence in parts of at most `size`."""
    for start in range(0, len(of), size):
        yield of[start : start + size]
