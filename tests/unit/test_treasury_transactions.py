"""Postings: what moves, and everything a transaction is refused for."""

from __future__ import annotations

import pytest

from events.treasury import AccountClosed, AccountOpened, Posting, SupplyBurned, TransactionPosted
from events.values import INT64_MAX, is_reference
from services.kernel.errors import InvalidField
from services.kernel.snapshot import freeze
from services.treasury.commands import BurnSupply, PostTransaction
from services.treasury.errors import (
    AccountIsClosed,
    AmountOverflow,
    EffectiveDateTooEarly,
    InsufficientFunds,
    NotAccountOwner,
    ReservedAccount,
    SameAccount,
    UnknownAccount,
)
from tests.spec import NOW_US
from tests.treasury_given import ADA, BEN, CAT, emits, founded, scored, settle, transfer


def test_a_transfer_moves_its_amount() -> None:
    spec = founded(ada=100)
    (fact,) = spec.when(transfer((ADA, BEN, 30)), ADA)
    assert isinstance(fact, TransactionPosted)
    assert fact.postings == (Posting(ADA, BEN, "30"),)
    assert fact.authorization == "a.b.c"
    assert is_reference(fact.transaction, "transaction")
    assert (spec.state.balances[ADA], spec.state.balances[BEN]) == (70, 30)


def test_two_transactions_have_two_names() -> None:
    spec = founded(ada=100)
    names = [spec.when(transfer((ADA, BEN, 1)), ADA)[0].transaction for _ in range(2)]
    assert names[0] != names[1]


def test_the_whole_balance_may_be_spent() -> None:
    spec = founded(ada=100)
    spec.when(transfer((ADA, BEN, 100)), ADA)
    assert spec.state.balances[ADA] == 0


def test_one_unit_more_than_the_balance_is_refused_with_the_figures() -> None:
    spec = founded(ada=100)
    with pytest.raises(InsufficientFunds) as refusal:
        spec.when(transfer((ADA, BEN, 101)), ADA)
    assert refusal.value.fields == {"account": ADA, "spendable": "100", "amount": "101"}


def test_all_postings_apply_or_none() -> None:
    spec = founded(ada=100)
    before = freeze(spec.state)
    with pytest.raises(InsufficientFunds):
        spec.when(transfer((ADA, BEN, 60), (ADA, CAT, 60)), ADA)
    assert freeze(spec.state) == before


def test_each_posting_is_checked_on_what_those_before_it_left() -> None:
    spec = founded(ada=100).given(*emits(AccountOpened(f"{ADA}/savings", ADA, "member")))
    spec.when(transfer((ADA, f"{ADA}/savings", 100), (f"{ADA}/savings", BEN, 100)), ADA)
    assert spec.state.balances[BEN] == 100
    spec = founded(ada=100).given(*emits(AccountOpened(f"{ADA}/savings", ADA, "member")))
    with pytest.raises(InsufficientFunds):
        spec.when(transfer((f"{ADA}/savings", BEN, 100), (ADA, f"{ADA}/savings", 100)), ADA)


@pytest.mark.parametrize(
    "amount", ["0", "-5", "-0", "+5", "05", "1.5", "1e3", "", " 5", "5 ", "5\n", "\u0665", "five", "0x5", "1_000"]
)
def test_an_amount_that_is_no_canonical_integer_above_zero_is_refused(amount: str) -> None:
    with pytest.raises(InvalidField):
        founded(ada=100).when(transfer((ADA, BEN, amount)), ADA)


@pytest.mark.parametrize("amount", [1.5, 5, None, True])
def test_an_amount_that_is_no_text_is_refused(amount: object) -> None:
    with pytest.raises(InvalidField):
        founded(ada=100).when(PostTransaction((Posting(ADA, BEN, amount),), "a.b.c"), ADA)  # type: ignore[arg-type]


@pytest.mark.parametrize("amount", [str(INT64_MAX + 1), "9" * 19, "1" + "0" * 19, "9" * 100_000])
def test_an_amount_above_64_bits_is_refused(amount: str) -> None:
    with pytest.raises(AmountOverflow):
        founded(ada=100).when(transfer((ADA, BEN, amount)), ADA)


def test_the_largest_amount_is_only_too_much_for_the_balance() -> None:
    with pytest.raises(InsufficientFunds):
        founded(ada=100).when(transfer((ADA, BEN, INT64_MAX)), ADA)


def test_a_balance_that_would_pass_64_bits_is_refused() -> None:
    spec = founded(cap=INT64_MAX, ben=INT64_MAX)
    spec.given(*emits(AccountOpened("external/mint", ADA, "external", may_go_negative=True)))
    with pytest.raises(AmountOverflow):
        spec.when(transfer(("external/mint", BEN, 1)), ADA)


def test_a_flagged_account_goes_negative_down_to_64_bits() -> None:
    spec = founded().given(*emits(AccountOpened("external/mint", ADA, "external", may_go_negative=True)))
    spec.when(transfer(("external/mint", BEN, INT64_MAX)), ADA)
    assert spec.state.balances["external/mint"] == -INT64_MAX
    with pytest.raises(AmountOverflow):
        spec.when(transfer(("external/mint", CAT, 1)), ADA)


def test_another_members_account_cannot_be_debited() -> None:
    with pytest.raises(NotAccountOwner):
        founded(ada=100).when(transfer((ADA, BEN, 1)), BEN)


def test_a_pool_cannot_be_debited_by_a_signature() -> None:
    with pytest.raises(NotAccountOwner):
        founded(ada=100).when(transfer(("pool/emission-reserve", ADA, 1)), ADA)


def test_one_foreign_debit_among_own_ones_refuses_the_whole() -> None:
    with pytest.raises(NotAccountOwner):
        founded(ada=100, cat=100).when(transfer((ADA, BEN, 1), (CAT, BEN, 1)), ADA)


def test_a_pool_may_be_given_to() -> None:
    spec = founded(ada=100)
    spec.when(transfer((ADA, "pool/emission-reserve", 100)), ADA)
    assert spec.state.balances["pool/emission-reserve"] == 100


def test_an_epochs_reserve_is_moved_by_rules_only() -> None:
    spec = founded(ada=100)
    settle(spec, 0, scored((1, BEN, 5)))
    with pytest.raises(ReservedAccount):
        spec.when(transfer((ADA, "late-reserve/0", 1)), ADA)


def test_a_debit_from_an_unknown_account_is_refused() -> None:
    with pytest.raises(UnknownAccount) as refusal:
        founded(ada=100).when(transfer((f"{ADA}/none", BEN, 1)), ADA)
    assert refusal.value.fields == {"account": f"{ADA}/none"}


def test_a_credit_to_an_unknown_account_is_refused() -> None:
    with pytest.raises(UnknownAccount) as refusal:
        founded(ada=100).when(transfer((ADA, "member/nobody", 1)), ADA)
    assert refusal.value.fields == {"account": "member/nobody"}


@pytest.mark.parametrize("postings", [(f"{ADA}/old", BEN, 1), (ADA, f"{ADA}/old", 1)])
def test_a_closed_account_takes_part_in_nothing(postings: tuple[str, str, int]) -> None:
    spec = founded(ada=100).given(
        *emits(AccountOpened(f"{ADA}/old", ADA, "member"), AccountClosed(f"{ADA}/old", "a.b.c"))
    )
    with pytest.raises(AccountIsClosed):
        spec.when(transfer(postings), ADA)


def test_an_account_cannot_pay_itself() -> None:
    with pytest.raises(SameAccount):
        founded(ada=100).when(transfer((ADA, ADA, 1)), ADA)


def test_a_hundred_postings_are_welcome_and_one_more_is_refused() -> None:
    spec = founded(ada=1_000)
    spec.when(transfer(*[(ADA, BEN, 1)] * 100), ADA)
    assert spec.state.balances[BEN] == 100
    with pytest.raises(InvalidField):
        spec.when(transfer(*[(ADA, BEN, 1)] * 101), ADA)


def test_a_transaction_without_postings_is_refused() -> None:
    with pytest.raises(InvalidField):
        founded(ada=100).when(transfer(), ADA)


def test_labels_are_recorded_and_move_nothing() -> None:
    spec = founded(ada=100)
    command = PostTransaction(
        (Posting(ADA, BEN, "1"),), "a.b.c", "for März", NOW_US // 1_000 + 10**9, {"invoice": "17"}
    )
    (fact,) = spec.when(command, ADA)
    assert (fact.memo, fact.effective_ms, fact.metadata) == ("for März", NOW_US // 1_000 + 10**9, {"invoice": "17"})
    assert spec.state.balances[BEN] == 1


@pytest.mark.parametrize(
    ("memo", "metadata"),
    [
        ("x" * 257, None),
        ("a\0b", None),
        ("a\nb", None),
        ("", {f"key-{number}": "" for number in range(17)}),
        ("", {"": "x"}),
        ("", {"k" * 65: "x"}),
        ("", {"key": "x" * 257}),
        ("", {"key": "\u0000"}),
    ],
)
def test_labels_are_bounded(memo: str, metadata: dict[str, str] | None) -> None:
    command = PostTransaction((Posting(ADA, BEN, "1"),), "a.b.c", memo, None, metadata)
    with pytest.raises(InvalidField):
        founded(ada=100).when(command, ADA)


def test_an_effective_date_may_not_precede_an_account_it_touches() -> None:
    spec = founded(ada=100)
    exact = PostTransaction((Posting(ADA, BEN, "1"),), "a.b.c", effective_ms=NOW_US // 1_000)
    spec.when(exact, ADA)
    early = PostTransaction((Posting(ADA, BEN, "1"),), "a.b.c", effective_ms=NOW_US // 1_000 - 1)
    with pytest.raises(EffectiveDateTooEarly):
        spec.when(early, ADA)


@pytest.mark.parametrize("effective_ms", [-1, 253_402_300_800_000])
def test_an_effective_date_outside_the_calendar_is_refused(effective_ms: int) -> None:
    command = PostTransaction((Posting(ADA, BEN, "1"),), "a.b.c", effective_ms=effective_ms)
    with pytest.raises(InvalidField):
        founded(ada=100).when(command, ADA)


def test_burning_lowers_the_balance_and_the_supply() -> None:
    spec = founded(ada=100)
    (fact,) = spec.when(BurnSupply(ADA, "40", "a.b.c"), ADA)
    assert fact == SupplyBurned(ADA, "40", "a.b.c")
    assert (spec.state.balances[ADA], spec.state.supply.minted, spec.state.supply.burned) == (60, 100, 40)


def test_more_than_the_balance_cannot_be_burned() -> None:
    with pytest.raises(InsufficientFunds):
        founded(ada=100).when(BurnSupply(ADA, "101", "a.b.c"), ADA)


def test_another_members_units_cannot_be_burned() -> None:
    with pytest.raises(NotAccountOwner):
        founded(ada=100).when(BurnSupply(ADA, "1", "a.b.c"), BEN)
