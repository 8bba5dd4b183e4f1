"""What must be true of the book after every fact (TREASURY "Checked after every fact")."""

from __future__ import annotations

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
    for number in state.epochs.settled:
        if left := state.balances.get(names.epoch(number), 0):
            faults.append(f"epoch {number} is settled and its account holds {left}")
        if number in state.epochs.noted or number in state.epochs.paying:
            faults.append(f"epoch {number} is settled and still holds pages of scores or payouts")
    return tuple(faults)
