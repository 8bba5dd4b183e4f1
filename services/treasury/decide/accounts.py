"""Opening and closing accounts."""

from __future__ import annotations

from events.treasury import AccountClosed, AccountOpened
from events.values import is_reference, is_slug
from services.kernel.decider import Context, Decision, Emit
from services.kernel.errors import InvalidField
from services.treasury.commands import CloseAccount, OpenAccount, OpenMemberAccount
from services.treasury.decide.reading import the_account, the_stream
from services.treasury.errors import AccountExists, AccountNotEmpty, NotAccountOwner, ReservedAccount
from services.treasury.state import Book


def open_member_account(command: OpenMemberAccount, state: Book, context: Context) -> Decision:
    """Open a member's own account unless genesis or a reward opened it before."""
    if command.member in state.accounts:
        return Decision((), {"account": command.member})
    fact = AccountOpened(command.member, command.member, "member")
    return Decision((Emit(the_stream(state, context), fact),), {"account": command.member})


def open_account(command: OpenAccount, state: Book, context: Context) -> Decision:
    """Open the caller's account `<member>/<slug>`. Raises InvalidField, UnknownAccount, AccountExists."""
    if not is_slug(command.slug):
        raise InvalidField("an account's name is a slug of 1 to 64 characters", slug=command.slug[:80])
    the_account(state, context.actor)
    account = f"{context.actor}/{command.slug}"
    if account in state.accounts:
        raise AccountExists(account)
    fact = AccountOpened(account, context.actor, "member")
    return Decision((Emit(the_stream(state, context), fact),), {"account": account})


def close_account(command: CloseAccount, state: Book, context: Context) -> Decision:
    """Close one of the caller's named accounts, at zero; the account with the member's own id stays.

    Raises UnknownAccount, AccountIsClosed, NotAccountOwner, ReservedAccount, AccountNotEmpty.
    """
    account = the_account(state, command.account)
    if account.owner != context.actor:
        raise NotAccountOwner(command.account)
    if account.kind != "member" or is_reference(command.account, "member"):
        raise ReservedAccount(command.account)
    if state.balances[command.account] != 0:
        raise AccountNotEmpty(command.account)
    fact = AccountClosed(command.account, command.authorization)
    return Decision((Emit(the_stream(state, context), fact),), {"account": command.account})
