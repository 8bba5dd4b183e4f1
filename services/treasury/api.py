"""Routes of the treasury. No rule stands here."""

from __future__ import annotations

from typing import Annotated

import pydantic

from events.treasury import Posting
from services.kernel.routes import Body, Caller, CommandRoute, Route
from services.treasury.commands import BurnSupply, CloseAccount, OpenAccount, PostTransaction

Name = Annotated[str, pydantic.Field(min_length=1, max_length=160)]
Amount = Annotated[str, pydantic.Field(min_length=1, max_length=40, examples=["1000000"])]


class PostingBody(Body):
    """One movement: the debit account pays the credit account, base units above zero as decimal text."""

    debit: Name
    credit: Name
    amount: Amount


class TransactionBody(Body):
    """1..100 postings, all or none, in order. The effective date (milliseconds UTC) only labels reports."""

    postings: Annotated[tuple[PostingBody, ...], pydantic.Field(strict=False, min_length=1, max_length=100)]
    memo: Annotated[str, pydantic.Field(max_length=256)] = ""
    effective_ms: int | None = None
    metadata: Annotated[dict[str, str], pydantic.Field(max_length=16)] | None = None


class AccountBody(Body):
    """The name of a new account of the caller's: it becomes `<member>/<slug>`."""

    slug: Annotated[str, pydantic.Field(min_length=1, max_length=64)]


class ClosingBody(Body):
    """One of the caller's named accounts, at zero."""

    account: Name


class BurnBody(Body):
    """Units of one of the caller's accounts that shall cease to exist, base units as decimal text."""

    account: Name
    amount: Amount


def _signed(caller: Caller) -> str:
    """Return the caller's JWS; the edge has checked that it is there."""
    assert caller.authorization is not None
    return caller.authorization


def _post(body: TransactionBody, caller: Caller) -> PostTransaction:
    postings = tuple(Posting(posting.debit, posting.credit, posting.amount) for posting in body.postings)
    return PostTransaction(postings, _signed(caller), body.memo, body.effective_ms, body.metadata)


def _open(body: AccountBody, _caller: Caller) -> OpenAccount:
    return OpenAccount(body.slug)


def _close(body: ClosingBody, caller: Caller) -> CloseAccount:
    return CloseAccount(body.account, _signed(caller))


def _burn(body: BurnBody, caller: Caller) -> BurnSupply:
    return BurnSupply(body.account, body.amount, _signed(caller))


def routes() -> tuple[Route, ...]:
    """Return the treasury's command routes."""
    return (
        CommandRoute(
            "PostTransaction",
            "/v1/treasury/transactions",
            "transactions.post",
            TransactionBody,
            _post,
            own_signature=True,
            summary="Move amounts between accounts, all or none",
        ),
        CommandRoute(
            "BurnSupply",
            "/v1/treasury/burns",
            "transactions.post",
            BurnBody,
            _burn,
            own_signature=True,
            summary="Let units of an account cease to exist",
        ),
        CommandRoute(
            "OpenAccount",
            "/v1/treasury/accounts",
            "accounts.open",
            AccountBody,
            _open,
            api_key=True,
            summary="Open a named account of the caller's",
        ),
        CommandRoute(
            "CloseAccount",
            "/v1/treasury/accounts/close",
            "accounts.open",
            ClosingBody,
            _close,
            own_signature=True,
            summary="Close a named account of the caller's, at zero",
        ),
    )
