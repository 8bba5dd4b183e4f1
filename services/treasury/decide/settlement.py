"""Settling an epoch: its pool moves to its own accounts and out again to the last unit, in one commit.

Where the community names sub-pools, the epoch's pool is divided by them and each kind of resource is settled as a pool
of its own, in the order of `KINDS`. Order of a kind's facts: accounts that are missing, the mint (live epochs), the
pool, pages of payouts, the closing of the books with the late reserve and what is kept, the closed account.
paid + late_reserve + kept = pool, always.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from immutables import Map

from events.envelope import Fact
from events.genesis import SubPool
from events.registry_terms import KINDS, DeviceKind
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
from services.treasury.decide.payouts import Opened, Payout, openings, pages, payouts_of
from services.treasury.decide.reading import the_asset
from services.treasury.decide.scores import complete_scores, count_pages
from services.treasury.errors import EpochAlreadySettled, UnknownFund
from services.treasury.shares import PoolSplit, final_rate, largest_remainder, split_pool
from services.treasury.state import Asset, Book, Fund

Scores = Sequence[tuple[ScoredNode, int]]


@dataclass(frozen=True, slots=True)
class _Share:
    """One kind's share of the epoch's pool, and what it is settled with."""

    command: SettleEpoch
    kind: DeviceKind
    pool: int
    fund: Fund | None
    split: PoolSplit
    rate: tuple[int, int]
    holdback_ppm: int

    @property
    def account(self) -> str:
        """The account the pool passes through."""
        return names.epoch(self.command.epoch, self.kind)


def settle_epoch(command: SettleEpoch, state: Book, _context: Context) -> Decision:
    """Pay a closed epoch, all kinds. Raises BookNotDefined, EpochAlreadySettled, ScoresIncomplete, UnknownFund."""
    asset, epoch = the_asset(state), command.epoch
    if (epoch, "gpu") in state.epochs.settled:
        raise EpochAlreadySettled(epoch)
    scores = _scores(command, state, asset)
    fund = _fund(command, state)
    whole = _emission(asset, state) if fund is None else min(fund.pool_per_epoch, state.balances[fund.account])
    opened, facts, paid = Opened(state.accounts), list[Fact](), 0
    for pool, amount in zip(asset.sub_pools, _divided(whole, asset.sub_pools), strict=True):
        total = sum(score for _, score in scores[pool.kind])
        cap = int(pool.rate_cap)
        split = split_pool(amount, total, asset.late_reserve_ppm, cap)
        holdback = asset.holdback_ppm if fund is None else 0
        rate = final_rate(split.payable, total, cap)
        share = _Share(command, pool.kind, amount, fund, split, rate, holdback)
        payouts = payouts_of(share_out(split.payable, scores[pool.kind]), Map(), pool.kind, holdback)
        facts += _settlement(share, payouts, opened)
        paid += split.payable
    stream = names.book(asset.symbol)
    answer = {"epoch": epoch, "pool": str(whole), "paid": str(paid)}
    return Decision([Emit(stream, fact) for fact in facts], answer)


def _divided(pool: int, sub_pools: Sequence[SubPool]) -> list[int]:
    """Divide an epoch's pool by the shares of its kinds: largest remainder, ties by kind."""
    return largest_remainder(pool, [(one.kind, one.share_ppm) for one in sub_pools])


def _scores(command: SettleEpoch, state: Book, asset: Asset) -> Mapping[DeviceKind, Scores]:
    """Return the scores of every kind with a sub-pool; raises ScoresIncomplete unless they are all there."""
    totals = {**dict(command.others), "gpu": command.micro_rgpu_hours}
    noted = {kind: state.epochs.noted.get((command.epoch, kind), Map()) for kind in KINDS}
    count_pages(command.epoch, sum(map(len, noted.values())), command.pages)
    return {
        pool.kind: complete_scores(command.epoch, noted[pool.kind], totals.get(pool.kind, "0"))
        for pool in asset.sub_pools
    }


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


def share_out(payable: int, scores: Scores) -> list[tuple[str, str, int]]:
    """Divide what is payable among (node, owner) by score: largest remainder, ties by node id."""
    if not scores or not payable:
        return []
    parts = largest_remainder(payable, [(node.node, score) for node, score in scores])
    return [(node.node, node.owner, part) for (node, _), part in zip(scores, parts, strict=True)]


def _settlement(share: _Share, payouts: Sequence[Payout], opened: Opened) -> Iterator[Fact]:
    """Yield the facts of one kind."""
    epoch = share.command.epoch
    yield AccountOpened(share.account, names.COMMUNITY, "escrow")
    yield AccountOpened(names.late_reserve(epoch, share.kind), names.COMMUNITY, "escrow")
    yield from openings(payouts, opened, epoch, share.holdback_ppm)
    yield from _funding(share)
    for number, page in enumerate(pages(payouts, share.account, epoch, share.holdback_ppm)):
        held = page.held if share.holdback_ppm else msgspec.UNSET
        yield RewardsPaid(epoch, number, page.nodes, page.postings, told(share.kind), held)
    yield _settled(share)
    yield AccountClosed(share.account)


def told(kind: DeviceKind) -> DeviceKind | msgspec.UnsetType:
    """Return a kind as facts tell it: left out for GPUs."""
    return msgspec.UNSET if kind == "gpu" else kind


def _funding(share: _Share) -> Iterator[Fact]:
    epoch, fund, pool = share.command.epoch, share.fund, share.pool
    if fund is None and pool:
        yield SupplyMinted(share.account, str(pool), "emission", epoch)
    moved = (Posting(fund.account, share.account, str(pool)),) if fund is not None and pool else ()
    yield EpochPoolFunded(epoch, moved, str(pool), told(share.kind))


def _settled(share: _Share) -> Fact:
    epoch, split = share.command.epoch, share.split
    rest = ((names.late_reserve(epoch, share.kind), split.late_reserve), (names.EMISSION_RESERVE, split.kept))
    return EpochSettled(
        epoch,
        share.command.closed_fact,
        str(share.pool),
        str(split.payable),
        str(split.late_reserve),
        str(split.kept),
        str(share.rate[0]),
        str(share.rate[1]),
        share.command.gate,
        tuple(Posting(share.account, account, str(amount)) for account, amount in rest if amount),
        told(share.kind),
        share.holdback_ppm or msgspec.UNSET,
    )
