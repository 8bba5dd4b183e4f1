"""Folding the book's own facts. Never refuses, reads no clock: rules live in `decide` only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from immutables import Map

from events import treasury
from events.catalog import Recorded
from events.envelope import Fact
from events.genesis import SubPool
from events.registry_terms import KINDS
from events.treasury import NodeReward, Posting
from events.values import DAY_MS, PPM
from services.treasury import holdback, late_basis
from services.treasury.holdback import Holds
from services.treasury.late_basis import LateBasis, ScorePage
from services.treasury.state import Account, Asset, Book, EpochKind, Fund, Settlement, no_late_pay

Fold = Callable[[Any, Book, Recorded], Book]


def evolve(state: Book, recorded: Recorded) -> Book:
    """Fold one fact of the treasury."""
    return _FOLDS[type(recorded.fact)](recorded.fact, state, recorded)


def _moved(balances: Map[str, int], postings: Sequence[Posting]) -> Map[str, int]:
    """Return the balances after the postings."""
    if len(postings) == 1:
        posting = postings[0]
        amount = int(posting.amount)
        paid = balances.set(posting.debit, balances[posting.debit] - amount)
        return paid.set(posting.credit, paid[posting.credit] + amount)
    draft = balances.mutate()
    for posting in postings:
        amount = int(posting.amount)
        draft[posting.debit] -= amount
        draft[posting.credit] += amount
    return draft.finish()


def _post(fact: Any, state: Book, _recorded: Recorded) -> Book:
    """Fold any fact whose only effect is its postings; built directly, this is the hot path."""
    return Book(_moved(state.balances, fact.postings), state.supply, state.accounts, state.asset, state.epochs)


def _define_asset(fact: treasury.AssetDefined, state: Book, _recorded: Recorded) -> Book:
    pools = fact.sub_pools or (SubPool("gpu", PPM, fact.rate_cap_per_rgpu_hour),)
    if all(pool.kind != "gpu" for pool in pools):
        pools = (SubPool("gpu", 0, fact.rate_cap_per_rgpu_hour), *pools)
    asset = Asset(
        fact.symbol,
        int(fact.cap),
        int(fact.emission_per_epoch),
        fact.late_reserve_ppm,
        fact.late_reserve_days * DAY_MS,
        tuple(sorted(pools, key=lambda pool: KINDS.index(pool.kind))),
        fact.holdback_ppm or 0,
    )
    return replace(state, asset=asset)


def _open_account(fact: treasury.AccountOpened, state: Book, recorded: Recorded) -> Book:
    account = Account(fact.owner, fact.kind, recorded.time_ms, fact.may_go_negative, fact.vesting)
    return replace(
        state, accounts=state.accounts.set(fact.account, account), balances=state.balances.set(fact.account, 0)
    )


def _close_account(fact: treasury.AccountClosed, state: Book, _recorded: Recorded) -> Book:
    account = replace(state.accounts[fact.account], closed=True)
    return replace(state, accounts=state.accounts.set(fact.account, account))


def _mint(fact: treasury.SupplyMinted, state: Book, _recorded: Recorded) -> Book:
    amount = int(fact.amount)
    return replace(
        state,
        balances=state.balances.set(fact.account, state.balances[fact.account] + amount),
        supply=replace(state.supply, minted=state.supply.minted + amount),
    )


def _burn(fact: treasury.SupplyBurned, state: Book, _recorded: Recorded) -> Book:
    amount = int(fact.amount)
    return replace(
        state,
        balances=state.balances.set(fact.account, state.balances[fact.account] - amount),
        supply=replace(state.supply, burned=state.supply.burned + amount),
    )


def _open_fund(fact: treasury.FundOpened, state: Book, _recorded: Recorded) -> Book:
    fund = Fund(fact.account, int(fact.pool_per_epoch))
    return replace(state, epochs=replace(state.epochs, funds=state.epochs.funds.set(fact.backfill, fund)))


def _note_scores(fact: treasury.EpochScoresNoted, state: Book, _recorded: Recorded) -> Book:
    noted, key = state.epochs.noted, (fact.epoch, fact.kind or "gpu")
    pages = noted.get(key, Map()).set(fact.page, ScorePage(fact.page_fact, fact.scores))
    return replace(state, epochs=replace(state.epochs, noted=noted.set(key, pages)))


def _pay(fact: treasury.RewardsPaid, state: Book, _recorded: Recorded) -> Book:
    key = fact.epoch, fact.kind or "gpu"
    owners = state.epochs.paying.get(key, Map()).mutate()
    for owner, amount in _earned(fact.postings[: len(fact.nodes)], fact.held or ()):
        owners[owner] = owners.get(owner, 0) + amount
    epochs = replace(state.epochs, paying=state.epochs.paying.set(key, owners.finish()))
    paid = replace(state, balances=_moved(state.balances, fact.postings), epochs=epochs)
    return _with_held(paid, fact) if isinstance(fact.held, tuple) else paid


def _earned(postings: Iterable[Posting], *withheld: Iterable[NodeReward]) -> Iterator[tuple[str, int]]:
    """Yield what owners earned: what they were paid, and what was withheld of it."""
    for posting in postings:
        yield posting.credit, int(posting.amount)
    for part in withheld:
        for one in part:
            yield one.owner, int(one.amount)


def _with_held(state: Book, fact: treasury.RewardsPaid | treasury.LateRewardsPaid) -> Book:
    paid = zip(fact.nodes, fact.postings, strict=False)
    forfeited = () if isinstance(fact, treasury.RewardsPaid) else fact.forfeited or ()
    known = state.epochs.held.get(fact.epoch, Map())
    return _with_holds(
        state,
        fact.epoch,
        holdback.with_rewards(known, fact.kind or "gpu", paid, fact.held or (), forfeited),
    )


def _with_holds(state: Book, epoch: int, holds: Holds) -> Book:
    """Return the state with an epoch's holds, without them once they have ended and no late pay can come."""
    held = state.epochs.held
    if not holds or (no_late_pay(state, epoch) and not holdback.is_open(holds)):
        held = held.delete(epoch) if epoch in held else held
    else:
        held = held.set(epoch, holds)
    return replace(state, epochs=replace(state.epochs, held=held))


def _settle(fact: treasury.EpochSettled, state: Book, recorded: Recorded) -> Book:
    """Fold the last movements, fix the rate and the release, and turn pages and payouts into the basis of late pay."""
    asset, epochs, kind = state.asset, state.epochs, fact.kind or "gpu"
    assert asset is not None
    key = fact.epoch, kind
    pages, paid = epochs.noted.get(key, Map()), epochs.paying.get(key, Map())
    available = int(fact.pool) - int(fact.late_reserve)
    late = late_basis.in_time(available, asset.rate_cap(kind), pages.values(), paid)
    rate = int(fact.rate_numerator), int(fact.rate_denominator)
    settlement = Settlement(*rate, recorded.time_ms + asset.late_reserve_ms, late, fact.holdback_ppm or 0)
    noted = epochs.noted.delete(key) if key in epochs.noted else epochs.noted
    paying = epochs.paying.delete(key) if key in epochs.paying else epochs.paying
    epochs = replace(epochs, noted=noted, paying=paying, settled=epochs.settled.set(key, settlement))
    return replace(state, balances=_moved(state.balances, fact.postings), epochs=epochs)


def _with_basis(state: Book, key: EpochKind, late: LateBasis | None) -> Book:
    settlement = replace(state.epochs.settled[key], late=late)
    return replace(state, epochs=replace(state.epochs, settled=state.epochs.settled.set(key, settlement)))


def _basis(state: Book, key: EpochKind) -> LateBasis:
    late = state.epochs.settled[key].late
    assert late is not None
    return late


def _note_late(fact: treasury.LateScoresNoted, state: Book, _recorded: Recorded) -> Book:
    page, key = ScorePage(fact.page_fact, fact.scores), (fact.epoch, fact.kind or "gpu")
    late = late_basis.with_page(_basis(state, key), fact.scored_in, fact.page, fact.pages, page)
    state = _with_basis(state, key, late)
    if not fact.held_again:
        return state
    holds = state.epochs.held.get(fact.epoch, Map())
    return _with_holds(state, fact.epoch, holdback.held_again(holds, key[1], fact.held_again))


def _pay_late(fact: treasury.LateRewardsPaid, state: Book, recorded: Recorded) -> Book:
    key = fact.epoch, fact.kind or "gpu"
    earned = _earned(fact.postings[: len(fact.nodes)], fact.held or (), fact.forfeited or ())
    late = late_basis.with_paid(_basis(state, key), earned)
    paid = _with_basis(_post(fact, state, recorded), key, late)
    return _with_held(paid, fact) if isinstance(fact.held, tuple) else paid


def _release(fact: treasury.LateReserveReleased, state: Book, recorded: Recorded) -> Book:
    state = _with_basis(_post(fact, state, recorded), (fact.epoch, fact.kind or "gpu"), None)
    return _with_holds(state, fact.epoch, state.epochs.held.get(fact.epoch, Map()))


def _end_holdback(
    fact: treasury.HoldbackPaid | treasury.HoldbackForfeitBooked, state: Book, recorded: Recorded
) -> Book:
    keep = not state.epochs.settled[fact.epoch, fact.kind].released
    ended: Final = "released" if isinstance(fact, treasury.HoldbackPaid) else "forfeited"
    known = state.epochs.held.get(fact.epoch, Map())
    holds = holdback.with_end(known, fact.kind, fact.nodes, ended, keep=keep)
    return _with_holds(_post(fact, state, recorded), fact.epoch, holds)


_FOLDS: Final[dict[type[Fact], Fold]] = {
    treasury.AssetDefined: _define_asset,
    treasury.AccountOpened: _open_account,
    treasury.AccountClosed: _close_account,
    treasury.SupplyMinted: _mint,
    treasury.SupplyBurned: _burn,
    treasury.TransactionPosted: _post,
    treasury.FundOpened: _open_fund,
    treasury.EpochScoresNoted: _note_scores,
    treasury.EpochPoolFunded: _post,
    treasury.RewardsPaid: _pay,
    treasury.EpochSettled: _settle,
    treasury.LateScoresNoted: _note_late,
    treasury.LateRewardsPaid: _pay_late,
    treasury.LateReserveReleased: _release,
    treasury.HoldbackPaid: _end_holdback,
    treasury.HoldbackForfeitBooked: _end_holdback,
}
