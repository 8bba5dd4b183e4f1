"""What several decisions ask of the book, each question with its refusal."""

from __future__ import annotations

from events.registry_terms import DeviceKind
from services.kernel.decider import Context
from services.treasury import names
from services.treasury.errors import AccountIsClosed, BookNotDefined, EpochNotSettled, UnknownAccount
from services.treasury.shares import vested
from services.treasury.state import Account, Asset, Book, Settlement


def the_asset(state: Book) -> Asset:
    """Return the book's asset; raises BookNotDefined before genesis has reached the book."""
    if state.asset is None:
        raise BookNotDefined("genesis has not reached the book yet")
    return state.asset


def the_stream(state: Book, context: Context) -> str:
    """Return the book's stream. Before genesis has reached the book, the directory knows the asset's name."""
    if state.asset is not None:
        return names.book(state.asset.symbol)
    if context.directory.community is not None:
        return names.book(context.directory.community.currency.symbol)
    raise BookNotDefined("no community was founded yet")


def the_account(state: Book, name: str) -> Account:
    """Return an account that is open; raises UnknownAccount, AccountIsClosed."""
    account = state.accounts.get(name)
    if account is None:
        raise UnknownAccount(name)
    if account.closed:
        raise AccountIsClosed(name)
    return account


def the_settlement(state: Book, epoch: int, kind: DeviceKind) -> Settlement:
    """Return how an epoch of a kind was settled; raises EpochNotSettled."""
    settlement = state.epochs.settled.get((epoch, kind))
    if settlement is None:
        raise EpochNotSettled(epoch)
    return settlement


def locked(account: Account, time_ms: int) -> int:
    """Return the base units of an account that have not vested at recorded time `time_ms`."""
    if account.vesting is None:
        return 0
    return int(account.vesting.total) - vested(account.vesting, time_ms)
