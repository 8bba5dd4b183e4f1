"""Moving and burning amounts. A transaction of one posting is the hottest path of the house."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from events.treasury import Posting, SupplyBurned, TransactionPosted
from events.values import identifier
from services.kernel.decider import Context, Decision, Emit
from services.kernel.errors import InvalidField
from services.treasury.amounts import added, positive
from services.treasury.commands import BurnSupply, PostTransaction
from services.treasury.decide.reading import locked, the_account, the_stream
from services.treasury.errors import (
    AccountIsClosed,
    EffectiveDateTooEarly,
    InsufficientFunds,
    NotAccountOwner,
    ReservedAccount,
    SameAccount,
    UnknownAccount,
)
from services.treasury.state import Account, Book

MAX_POSTINGS: Final = 100
MAX_MEMO_CHARACTERS: Final = 256
MAX_METADATA_ENTRIES: Final = 16
MAX_METADATA_KEY_CHARACTERS: Final = 64
MAX_METADATA_VALUE_CHARACTERS: Final = 256
MAX_EFFECTIVE_MS: Final = 253_402_300_799_999
"""The end of the year 9999."""


def post_transaction(command: PostTransaction, state: Book, context: Context) -> Decision:
    """Move the postings in order, all or none; each is checked on what those before it left.

    Raises InvalidField, AmountOverflow, SameAccount, UnknownAccount, AccountIsClosed, NotAccountOwner,
    ReservedAccount, InsufficientFunds, EffectiveDateTooEarly.
    """
    postings = command.postings
    if not 1 <= len(postings) <= MAX_POSTINGS:
        raise InvalidField(f"a transaction has 1 to {MAX_POSTINGS} postings", postings=len(postings))
    if command.memo or command.metadata:
        _check_labels(command.memo, command.metadata or {})
    balances: dict[str, int] = {}
    for posting in postings:
        _apply(posting, balances, state, context)
    if command.effective_ms is not None:
        _check_effective(command.effective_ms, balances, state)
    transaction = f"transaction/{identifier('commons.transaction', context.actor, context.command_id)}"
    fact = TransactionPosted(
        transaction,
        postings,
        command.memo,
        command.effective_ms,
        dict(command.metadata) if command.metadata else None,
        command.authorization,
    )
    return Decision((Emit(the_stream(state, context), fact),), {"transaction": transaction})


def _apply(posting: Posting, balances: dict[str, int], state: Book, context: Context) -> None:
    """Move one posting in `balances`, the draft of what this transaction has touched so far."""
    amount = positive(posting.amount)
    debit, credit = posting.debit, posting.credit
    if debit == credit:
        raise SameAccount(debit)
    payer, payee = state.accounts.get(debit), state.accounts.get(credit)
    # Spelled out and not asked of `the_account`: two calls saved for each posting.
    if payer is None or payee is None:
        raise UnknownAccount(debit if payer is None else credit)
    if payer.closed or payee.closed:
        raise AccountIsClosed(debit if payer.closed else credit)
    if payer.owner != context.actor:
        raise NotAccountOwner(debit)
    if payee.kind == "escrow":
        raise ReservedAccount(credit)
    balance = balances[debit] if debit in balances else state.balances[debit]
    balances[debit] = _left(debit, payer, balance, amount, context)
    balance = balances[credit] if credit in balances else state.balances[credit]
    balances[credit] = added(balance, amount)


def _left(name: str, account: Account, balance: int, amount: int, context: Context) -> int:
    """Return what a debit leaves on an account; raises InsufficientFunds below zero or below what is locked."""
    if account.may_go_negative:
        return -added(-balance, amount)
    spendable = balance if account.vesting is None else balance - locked(account, context.time_ms)
    if amount > spendable:
        raise InsufficientFunds(name, max(0, spendable), amount)
    return balance - amount


def _check_labels(memo: str, metadata: Mapping[str, str]) -> None:
    if len(memo) > MAX_MEMO_CHARACTERS or not memo.isprintable():
        raise InvalidField(f"a memo has at most {MAX_MEMO_CHARACTERS} printable characters")
    if len(metadata) > MAX_METADATA_ENTRIES:
        raise InvalidField(f"metadata has at most {MAX_METADATA_ENTRIES} entries", entries=len(metadata))
    for key, value in metadata.items():
        if not (0 < len(key) <= MAX_METADATA_KEY_CHARACTERS and key.isprintable()):
            raise InvalidField(f"a metadata key has 1 to {MAX_METADATA_KEY_CHARACTERS} printable characters")
        if not (len(value) <= MAX_METADATA_VALUE_CHARACTERS and value.isprintable()):
            raise InvalidField(f"a metadata value has at most {MAX_METADATA_VALUE_CHARACTERS} printable characters")


def _check_effective(effective_ms: int, touched: Mapping[str, int], state: Book) -> None:
    if not 0 <= effective_ms <= MAX_EFFECTIVE_MS:
        raise InvalidField("an effective date lies between 1970 and 9999", effective_ms=effective_ms)
    for name in touched:
        opened_ms = state.accounts[name].opened_ms
        if effective_ms < opened_ms:
            raise EffectiveDateTooEarly(
                f"the effective date precedes {name}", account=name, effective_ms=effective_ms, opened_ms=opened_ms
            )


def burn_supply(command: BurnSupply, state: Book, context: Context) -> Decision:
    """Let units of one of the caller's accounts cease to exist.

    Raises InvalidField, AmountOverflow, UnknownAccount, AccountIsClosed, NotAccountOwner, InsufficientFunds.
    """
    amount = positive(command.amount)
    account = the_account(state, command.account)
    if account.owner != context.actor:
        raise NotAccountOwner(command.account)
    _left(command.account, account, state.balances[command.account], amount, context)
    fact = SupplyBurned(command.account, command.amount, command.authorization)
    return Decision((Emit(the_stream(state, context), fact),), {"account": command.account, "burned": command.amount})
