"""Refusals of the treasury, named for the rule.

Refusal
|-- InsufficientFunds        an account would fall below zero, or below what is not vested yet
|-- AmountOverflow           an amount or a balance does not fit in 64 bits
|-- UnknownAccount           no such account
|-- AccountIsClosed          the account takes part in nothing any more
|-- AccountExists            the account id is taken, perhaps by a closed account
|-- AccountNotEmpty          only an account at zero closes
|-- SameAccount              a posting's debit and credit account are one
|-- NotAccountOwner          a debited account is not the caller's
|-- ReservedAccount          the account is moved by rules only
|-- EffectiveDateTooEarly    an effective date precedes an account it touches
|-- BookNotDefined           genesis has not reached the book yet
|-- BookAlreadyDefined       the book has its asset already
|-- DistributionInconsistent the genesis distribution does not come out exactly
|-- ScoresAlreadyNoted       the page of scores was noted, or its epoch is settled
|-- ScoresIncomplete         the noted pages are not those the closing fact names
|-- EpochAlreadySettled      an epoch is settled once
|-- EpochNotSettled          late usage of an epoch that has no rate yet
|-- UnknownFund              the backfill has no fund
|-- ReserveNotDue            the late reserve is kept longer
|-- ReserveAlreadyReleased   the late reserve was released
Unavailable
|-- AnchorPending            the release gate says: wait
"""

from __future__ import annotations

from services.kernel.errors import Refusal, Unavailable


class InsufficientFunds(Refusal):
    """An account would fall below zero, or below what is not vested yet."""

    slug = "insufficient-funds"
    title = "Insufficient funds"

    def __init__(self, account: str, spendable: int, amount: int) -> None:
        """Keep the account, what it may spend now and what was asked, in base units (as text in the fields)."""
        super().__init__(
            f"{account} may spend {spendable} base units, {amount} were asked",
            account=account,
            spendable=str(spendable),
            amount=str(amount),
        )


class AmountOverflow(Refusal):
    """An amount or a balance does not fit in 64 bits."""

    slug = "amount-overflow"
    title = "Amount does not fit in 64 bits"


class _AccountRefusal(Refusal):
    """A refusal about one account, which stands in the fields."""

    detail_text = "{account} is refused"

    def __init__(self, account: str) -> None:
        """Keep the account's id."""
        super().__init__(self.detail_text.format(account=account[:160]), account=account[:160])


class UnknownAccount(_AccountRefusal):
    """No such account."""

    slug = "unknown-account"
    title = "Unknown account"
    detail_text = "there is no account {account}"


class AccountIsClosed(_AccountRefusal):
    """The account takes part in nothing any more."""

    slug = "account-closed"
    title = "Account closed"
    detail_text = "{account} is closed"


class AccountExists(_AccountRefusal):
    """The account id is taken, perhaps by a closed account."""

    slug = "account-exists"
    title = "Account exists"
    detail_text = "{account} was opened before"


class AccountNotEmpty(_AccountRefusal):
    """Only an account at zero closes."""

    slug = "account-not-empty"
    title = "Account not empty"
    detail_text = "{account} is not at zero"


class SameAccount(_AccountRefusal):
    """A posting's debit and credit account are one."""

    slug = "same-account"
    title = "Debit and credit are one account"
    detail_text = "{account} cannot pay itself"


class NotAccountOwner(_AccountRefusal):
    """A debited account is not the caller's."""

    slug = "not-account-owner"
    title = "Not the account's owner"
    detail_text = "{account} is not the caller's to debit"


class ReservedAccount(_AccountRefusal):
    """The account is moved by rules only."""

    slug = "reserved-account"
    title = "Account moved by rules only"
    detail_text = "{account} is moved by rules only"


class EffectiveDateTooEarly(Refusal):
    """An effective date precedes an account it touches."""

    slug = "effective-date-too-early"
    title = "Effective date precedes the account"


class BookNotDefined(Refusal):
    """Genesis has not reached the book yet; a policy that meets this waits."""

    slug = "book-not-defined"
    title = "Book not defined yet"


class BookAlreadyDefined(Refusal):
    """The book has its asset already."""

    slug = "book-already-defined"
    title = "Book already defined"


class DistributionInconsistent(Refusal):
    """The genesis distribution does not come out exactly."""

    slug = "distribution-inconsistent"
    title = "Distribution does not come out exactly"


class ScoresAlreadyNoted(Refusal):
    """The page of scores was noted, or its epoch is settled."""

    slug = "scores-already-noted"
    title = "Scores already noted"


class ScoresIncomplete(Refusal):
    """The noted pages are not those the closing fact names, so nothing is paid on them."""

    slug = "scores-incomplete"
    title = "Scores incomplete"


class _EpochRefusal(Refusal):
    """A refusal about one epoch, whose number stands in the fields."""

    detail_text = "epoch {epoch} is refused"

    def __init__(self, epoch: int) -> None:
        """Keep the epoch's number."""
        super().__init__(self.detail_text.format(epoch=epoch), epoch=epoch)


class EpochAlreadySettled(_EpochRefusal):
    """An epoch is settled once."""

    slug = "epoch-already-settled"
    title = "Epoch already settled"
    detail_text = "epoch {epoch} is settled"


class EpochNotSettled(_EpochRefusal):
    """Late usage of an epoch that has no rate yet."""

    slug = "epoch-not-settled"
    title = "Epoch not settled yet"
    detail_text = "epoch {epoch} is not settled"


class UnknownFund(Refusal):
    """The backfill has no fund."""

    slug = "unknown-fund"
    title = "Unknown fund"


class ReserveNotDue(_EpochRefusal):
    """The late reserve is kept longer."""

    slug = "reserve-not-due"
    title = "Late reserve not due"
    detail_text = "the late reserve of epoch {epoch} is kept longer"


class ReserveAlreadyReleased(_EpochRefusal):
    """The late reserve was released."""

    slug = "reserve-already-released"
    title = "Late reserve already released"
    detail_text = "the late reserve of epoch {epoch} was released"


class AnchorPending(Unavailable):
    """The release gate says: wait until the cause lies under a finalised anchor."""

    slug = "anchor-pending"
    title = "Anchor pending"
