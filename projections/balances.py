"""Who has how much: one row per account of the treasury's book, and what exists of the asset in all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from events import treasury
from events.catalog import Recorded
from projections.queries import Listing, Name, ViewReader
from projections.routes import Answer, Params, QueryContext, QueryRoute
from projections.store import Select
from projections.view import Change, Row, Table, View, change


class Account(Row):
    """An account: amounts in base units; `position` is the treasury's last one that touched it."""

    account: str
    owner: str | None = None
    kind: str | None = None
    balance: int = 0
    credited: int = 0
    debited: int = 0
    position: int = 0
    closed: bool = False


class Supply(Row):
    """What was ever minted and burned, in base units; minted - burned is the sum of all balances."""

    symbol: str
    minted: int = 0
    burned: int = 0


ACCOUNTS: Final = Table("accounts", Account, ("account",), indexes=(("owner", "account"),))
SUPPLY: Final = Table("supply", Supply, ("symbol",))


def _open(row: Account, owner: str, kind: str, position: int) -> None:
    row.owner, row.kind = owner, kind
    row.position = max(position, row.position)


def _close(row: Account, position: int) -> None:
    row.closed = True
    row.position = max(position, row.position)


def _credit(row: Account, amount: int, position: int) -> None:
    row.balance += amount
    row.credited += amount
    if position > row.position:  # noqa: PLR1730 - half the price of max() in the hottest lines of a rebuild
        row.position = position


def _debit(row: Account, amount: int, position: int) -> None:
    row.balance -= amount
    row.debited += amount
    if position > row.position:  # noqa: PLR1730 - half the price of max() in the hottest lines of a rebuild
        row.position = position


def _supply(row: Supply, minted: int, burned: int) -> None:
    row.minted += minted
    row.burned += burned


def _opened(fact: treasury.AccountOpened, recorded: Recorded) -> Iterable[Change]:
    yield change(ACCOUNTS, fact.account, _open, fact.owner, fact.kind, recorded.position)


def _closed(fact: treasury.AccountClosed, recorded: Recorded) -> Iterable[Change]:
    yield change(ACCOUNTS, fact.account, _close, recorded.position)


def _posted(fact: Any, recorded: Recorded) -> Iterable[Change]:
    """Fold any fact with postings. The hottest fold there is, so changes are made as plain tuples."""
    position = recorded.position
    changes: list[Change] = []
    for posting in fact.postings:
        arguments = (int(posting.amount), position)
        changes.append((ACCOUNTS, posting.debit, _debit, arguments))
        changes.append((ACCOUNTS, posting.credit, _credit, arguments))
    return changes


def _minted(fact: treasury.SupplyMinted, recorded: Recorded) -> Iterable[Change]:
    amount = int(fact.amount)
    yield change(ACCOUNTS, fact.account, _credit, amount, recorded.position)
    yield change(SUPPLY, _symbol(recorded), _supply, amount, 0)


def _burned(fact: treasury.SupplyBurned, recorded: Recorded) -> Iterable[Change]:
    amount = int(fact.amount)
    yield change(ACCOUNTS, fact.account, _debit, amount, recorded.position)
    yield change(SUPPLY, _symbol(recorded), _supply, 0, amount)


def _symbol(recorded: Recorded) -> str:
    return recorded.stream.rpartition("/")[2]  # the book's stream is `book/<SYMBOL>`


VIEW: Final = View(
    name="balances",
    version=2,
    services=("treasury",),
    tables=(ACCOUNTS, SUPPLY),
    handlers={
        treasury.AccountOpened: _opened,
        treasury.AccountClosed: _closed,
        treasury.SupplyMinted: _minted,
        treasury.SupplyBurned: _burned,
        treasury.TransactionPosted: _posted,
        treasury.EpochPoolFunded: _posted,
        treasury.RewardsPaid: _posted,
        treasury.EpochSettled: _posted,
        treasury.LateRewardsPaid: _posted,
        treasury.LateReserveReleased: _posted,
        treasury.HoldbackPaid: _posted,
        treasury.HoldbackForfeitBooked: _posted,
    },
)


class Accounts(Listing):
    """All accounts, or those of one owner."""

    owner: Name | None = None


class OneAccount(Params):
    """One account by its name."""

    account: Name


def routes(reader: ViewReader) -> tuple[QueryRoute, ...]:
    """Return the queries: the list, one account, the supply."""

    async def listed(params: Accounts, context: QueryContext) -> Answer:
        if params.owner is None:
            return await reader.page(VIEW, Select(ACCOUNTS), params, context, account_body)
        select = Select(ACCOUNTS, (("owner", "=", params.owner),))
        return await reader.page(VIEW, select, params, context, account_body)

    async def one(params: OneAccount, context: QueryContext) -> Answer:
        return await reader.one(VIEW, Select(ACCOUNTS, (("account", "=", params.account),)), context, account_body)

    async def supply(params: Listing, context: QueryContext) -> Answer:
        return await reader.page(VIEW, Select(SUPPLY), params, context, supply_body)

    path = "/v1/views/balances"
    return (
        QueryRoute("balances.list", path, "views.read", Accounts, listed, "Balances of accounts"),
        QueryRoute("balances.supply", "/v1/views/supply", "views.read", Listing, supply, "What exists of the asset"),
        QueryRoute("balances.one", f"{path}/{{account:path}}", "views.read", OneAccount, one, "Balance of one account"),
    )


def account_body(row: Account) -> dict[str, Any]:
    """Return an account as the API shows it."""
    return {
        "account": row.account,
        "owner": row.owner,
        "kind": row.kind,
        "balance": str(row.balance),
        "credited": str(row.credited),
        "debited": str(row.debited),
        "position": str(row.position),
        "closed": row.closed,
    }


def supply_body(row: Supply) -> dict[str, Any]:
    """Return the supply of an asset as the API shows it."""
    return {
        "symbol": row.symbol,
        "minted": str(row.minted),
        "burned": str(row.burned),
        "supply": str(row.minted - row.burned),
    }
