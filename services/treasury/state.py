"""The book as folded from its facts: balances, supply, accounts, and what epochs still owe.

Balances stand apart from what an account is, so that a transfer makes two small steps in one persistent map.
`evolve` never refuses and reads no clock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from immutables import Map

from events import treasury
from events.catalog import Recorded
from events.envelope import Fact
from events.treasury import AccountKind, Posting, VestingSchedule
from events.values import DAY_MS
from services.treasury import late_basis
from services.treasury.late_basis import LateBasis, ScorePage


@dataclass(frozen=True, slots=True)
class Account:
    """What an account is. `opened_ms` is recorded time; a closed account's id is never used again."""

    owner: str
    kind: AccountKind
    opened_ms: int
    may_go_negative: bool = False
    vesting: VestingSchedule | None = None
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Supply:
    """What was ever minted and burned, in base units; their difference is the sum of all balances."""

    minted: int = 0
    burned: int = 0


@dataclass(frozen=True, slots=True)
class Asset:
    """The book's asset and the parameters epochs are settled with (base units, milliseconds)."""

    symbol: str
    cap: int
    emission_per_epoch: int
    late_reserve_ppm: int
    late_reserve_ms: int
    rate_cap_per_rgpu_hour: int


@dataclass(frozen=True, slots=True)
class Fund:
    """A backfill's fund: its account and what one epoch may take from it, in base units."""

    account: str
    pool_per_epoch: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """A settled epoch: its final rate as a fraction, and what bounds late pay until the late reserve is released."""

    rate_numerator: int
    rate_denominator: int
    release_ms: int
    late: LateBasis | None

    @property
    def released(self) -> bool:
        """Whether the late reserve went back: late usage earns nothing any more."""
        return self.late is None


@dataclass(frozen=True, slots=True)
class Epochs:
    """What rewards need to remember. `noted` holds pages of epochs not settled yet, and only those.

    `paying` holds what the epoch that is being settled has paid each owner so far, in base units.
    """

    funds: Map[str, Fund] = Map()
    noted: Map[int, Map[int, ScorePage]] = Map()
    paying: Map[int, Map[str, int]] = Map()
    settled: Map[int, Settlement] = Map()


@dataclass(frozen=True, slots=True)
class Book:
    """The whole state. Every account of `accounts` stands in `balances`, at 0 from its opening on."""

    balances: Map[str, int] = Map()
    supply: Supply = Supply()
    accounts: Map[str, Account] = Map()
    asset: Asset | None = None
    epochs: Epochs = Epochs()


Fold = Callable[[Any, Book, Recorded], Book]


def initial() -> Book:
    """Return the book before its first fact."""
    return Book()


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
    asset = Asset(
        fact.symbol,
        int(fact.cap),
        int(fact.emission_per_epoch),
        fact.late_reserve_ppm,
        fact.late_reserve_days * DAY_MS,
        int(fact.rate_cap_per_rgpu_hour),
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
    noted = state.epochs.noted
    pages = noted.get(fact.epoch, Map()).set(fact.page, ScorePage(fact.page_fact, fact.scores))
    return replace(state, epochs=replace(state.epochs, noted=noted.set(fact.epoch, pages)))


def _pay(fact: treasury.RewardsPaid, state: Book, _recorded: Recorded) -> Book:
    owners = state.epochs.paying.get(fact.epoch, Map()).mutate()
    for posting in fact.postings:
        owners[posting.credit] = owners.get(posting.credit, 0) + int(posting.amount)
    epochs = replace(state.epochs, paying=state.epochs.paying.set(fact.epoch, owners.finish()))
    return replace(state, balances=_moved(state.balances, fact.postings), epochs=epochs)


def _settle(fact: treasury.EpochSettled, state: Book, recorded: Recorded) -> Book:
    """Fold the last movements, fix the rate and the release, and turn pages and payouts into the basis of late pay."""
    asset, epochs, epoch = state.asset, state.epochs, fact.epoch
    assert asset is not None
    pages, paid = epochs.noted.get(epoch, Map()), epochs.paying.get(epoch, Map())
    available = int(fact.pool) - int(fact.late_reserve)
    late = late_basis.in_time(available, asset.rate_cap_per_rgpu_hour, pages.values(), paid)
    rate = int(fact.rate_numerator), int(fact.rate_denominator)
    settlement = Settlement(*rate, recorded.time_ms + asset.late_reserve_ms, late)
    noted = epochs.noted.delete(epoch) if epoch in epochs.noted else epochs.noted
    paying = epochs.paying.delete(epoch) if epoch in epochs.paying else epochs.paying
    epochs = replace(epochs, noted=noted, paying=paying, settled=epochs.settled.set(epoch, settlement))
    return replace(state, balances=_moved(state.balances, fact.postings), epochs=epochs)


def _with_basis(state: Book, epoch: int, late: LateBasis | None) -> Book:
    settlement = replace(state.epochs.settled[epoch], late=late)
    return replace(state, epochs=replace(state.epochs, settled=state.epochs.settled.set(epoch, settlement)))


def _basis(state: Book, epoch: int) -> LateBasis:
    late = state.epochs.settled[epoch].late
    assert late is not None
    return late


def _note_late(fact: treasury.LateScoresNoted, state: Book, _recorded: Recorded) -> Book:
    page = ScorePage(fact.page_fact, fact.scores)
    late = late_basis.with_page(_basis(state, fact.epoch), fact.scored_in, fact.page, fact.pages, page)
    return _with_basis(state, fact.epoch, late)


def _pay_late(fact: treasury.LateRewardsPaid, state: Book, recorded: Recorded) -> Book:
    payments = ((posting.credit, int(posting.amount)) for posting in fact.postings)
    late = late_basis.with_paid(_basis(state, fact.epoch), payments)
    return _with_basis(_post(fact, state, recorded), fact.epoch, late)


def _release(fact: treasury.LateReserveReleased, state: Book, recorded: Recorded) -> Book:
    return _with_basis(_post(fact, state, recorded), fact.epoch, None)


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
}
