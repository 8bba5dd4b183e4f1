"""What must be true of the book after every fact (TREASURY "Checked after every fact")."""

from __future__ import annotations

from collections.abc import Iterator

from services.treasury import names
from services.treasury.state import Book


def check_book(state: Book) -> tuple[str, ...]:
    """Return a sentence for each broken invariant; empty when the book is sound."""
    faults = []
    total, issued = sum(state.balances.values()), state.supply.minted - state.supply.burned
    if total != issued:
        faults.append(f"the balances sum to {total}, minted - burned is {issued}")
    if state.asset is not None and issued > state.asset.cap:
        faults.append(f"{issued} base units exist, the cap is {state.asset.cap}")
    if set(state.balances) != set(state.accounts):
        faults.append("accounts and balances do not name the same accounts")
    for name, account in state.accounts.items():
        balance = state.balances.get(name, 0)
        if balance < 0 and not account.may_go_negative:
            faults.append(f"{name} stands at {balance} and may not go negative")
        if account.closed and balance != 0:
            faults.append(f"{name} is closed and stands at {balance}")
    for number, kind in state.epochs.settled:
        if left := state.balances.get(names.epoch(number, kind), 0):
            faults.append(f"epoch {number} ({kind}) is settled and its account holds {left}")
        if (number, kind) in state.epochs.noted or (number, kind) in state.epochs.paying:
            faults.append(f"epoch {number} ({kind}) is settled and still holds pages of scores or payouts")
    return (*faults, *_holdback_faults(state))


def _holdback_faults(state: Book) -> Iterator[str]:
    """Yield where a holdback account and what waits on it differ; one without holds stands at zero."""
    for name, balance in state.balances.items():
        number = name.removeprefix(names.HOLDBACK)
        if balance and number != name and int(number) not in state.epochs.held:
            yield f"{name} holds {balance} that is nobody's"
    for epoch, holds in state.epochs.held.items():
        account, waiting = names.holdback(epoch), sum(hold.waiting for hold in holds.values())
        if waiting != state.balances.get(account, 0):
            yield f"{account} holds {state.balances.get(account, 0)}, what waits there sums to {waiting}"
        if any(hold.waiting and hold.ended for hold in holds.values()):
            yield f"{account} holds what was released or forfeited"
