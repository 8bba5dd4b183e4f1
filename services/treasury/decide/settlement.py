"""Settling an epoch: its pool moves to its own account and out again to the last unit, in one commit.

Order of the facts: accounts that are missing, the mint (live epochs), the pool, pages of payouts, the closing of
the books with the late reserve and what is kept, the closed account. paid + late_reserve + kept = pool, always.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from immutables import Map

from events.envelope import Fact
from events.treasury import (
    AccountClosed,
    AccountOpened,
    EpochPoolFunded,
    EpochSettled,
    Posting,
    RewardsPaid,
    ScoredNode,
    SupplyMinted,
)
from services.kernel.decider import Context, Decision, Emit
from services.treasury import names
from services.treasury.commands import SettleEpoch
from services.treasury.decide.reading import the_asset
from services.treasury.decide.scores import complete_scores
from services.treasury.decide.transactions import MAX_POSTINGS
from services.treasury.errors import EpochAlreadySettled, UnknownFund
from services.treasury.shares import PoolSplit, final_rate, largest_remainder, split_pool
from services.treasury.state import Asset, Book, Fund


@dataclass(frozen=True, slots=True)
class Payout:
    """What one node earned, and the account of its owner."""

    node: str
    account: str
    amount: int


def settle_epoch(command: SettleEpoch, state: Book, _context: Context) -> Decision:
    """Pay a closed epoch. Raises BookNotDefined, EpochAlreadySettled, ScoresIncomplete, UnknownFund."""
    asset = the_asset(state)
    if command.epoch in state.epochs.settled:
        raise EpochAlreadySettled(command.epoch)
    pages = state.epochs.noted.get(command.epoch, Map())
    scores = complete_scores(command.epoch, pages, command.pages, command.micro_rgpu_hours)
    total = sum(score for _, score in scores)
    fund = _fund(command, state)
    pool = _emission(asset, state) if fund is None else min(fund.pool_per_epoch, state.balances[fund.account])
    split = split_pool(pool, total, asset.late_reserve_ppm, asset.rate_cap_per_rgpu_hour)
    payouts = share_out(split.payable, scores)
    facts = [
        *open_accounts(command.epoch, (payout.account for payout in payouts), state),
        *_funding(command.epoch, pool, fund),
        *_payout_pages(command.epoch, payouts),
        _settled(command, pool, split, final_rate(split.payable, total, asset.rate_cap_per_rgpu_hour)),
        AccountClosed(names.epoch(command.epoch)),
    ]
    stream = names.book(asset.symbol)
    answer = {"epoch": command.epoch, "pool": str(pool), "paid": str(split.payable)}
    return Decision([Emit(stream, fact) for fact in facts], answer)


def _fund(command: SettleEpoch, state: Book) -> Fund | None:
    if command.backfill is None:
        return None
    fund = state.epochs.funds.get(command.backfill)
    if fund is None:
        raise UnknownFund(f"the backfill {command.backfill} has no fund", backfill=command.backfill)
    return fund


def _emission(asset: Asset, state: Book) -> int:
    """Return what may be minted for a live epoch: the schedule, bounded by the cap (TREASURY "Supply")."""
    return max(0, min(asset.emission_per_epoch, asset.cap - (state.supply.minted - state.supply.burned)))


def share_out(payable: int, scores: Sequence[tuple[ScoredNode, int]]) -> list[Payout]:
    """Divide what is payable by score, largest remainder, ties by node id; nodes that come to 0 are left out."""
    if not scores or not payable:
        return []
    parts = largest_remainder(payable, [(node.node, score) for node, score in scores])
    return [Payout(node.node, node.owner, part) for (node, _), part in zip(scores, parts, strict=True) if part]


def open_accounts(epoch: int, owners: Iterable[str], state: Book) -> Iterator[Fact]:
    """Yield the openings this settlement needs: the epoch's two accounts, and owners' that are missing."""
    yield AccountOpened(names.epoch(epoch), names.COMMUNITY, "escrow")
    yield AccountOpened(names.late_reserve(epoch), names.COMMUNITY, "escrow")
    yield from open_owners(owners, state)


def open_owners(owners: Iterable[str], state: Book) -> Iterator[Fact]:
    """Yield an opening for each owner whose account is missing, once."""
    for owner in dict.fromkeys(owners):
        if owner not in state.accounts:
            yield AccountOpened(owner, owner, "member")


def _funding(epoch: int, pool: int, fund: Fund | None) -> Iterator[Fact]:
    account = names.epoch(epoch)
    if fund is None and pool:
        yield SupplyMinted(account, str(pool), "emission", epoch)
    moved = (Posting(fund.account, account, str(pool)),) if fund is not None and pool else ()
    yield EpochPoolFunded(epoch, moved, str(pool))


def _payout_pages(epoch: int, payouts: Sequence[Payout]) -> Iterator[Fact]:
    source = names.epoch(epoch)
    for page, start in enumerate(range(0, len(payouts), MAX_POSTINGS)):
        part = payouts[start : start + MAX_POSTINGS]
        postings = tuple(Posting(source, payout.account, str(payout.amount)) for payout in part)
        yield RewardsPaid(epoch, page, tuple(payout.node for payout in part), postings)


def _settled(command: SettleEpoch, pool: int, split: PoolSplit, rate: tuple[int, int]) -> Fact:
    source = names.epoch(command.epoch)
    rest = ((names.late_reserve(command.epoch), split.late_reserve), (names.EMISSION_RESERVE, split.kept))
    return EpochSettled(
        command.epoch,
        command.closed_fact,
        str(pool),
        str(split.payable),
        str(split.late_reserve),
        str(split.kept),
        str(rate[0]),
        str(rate[1]),
        command.gate,
        tuple(Posting(source, account, str(amount)) for account, amount in rest if amount),
    )
