"""Accounts: opening, closing, and what has vested."""

from __future__ import annotations

import pytest

from events.treasury import AccountClosed, AccountOpened, SupplyMinted, VestingSchedule
from services.kernel.errors import InvalidField
from services.treasury.commands import BurnSupply, CloseAccount, OpenAccount, OpenMemberAccount
from services.treasury.errors import (
    AccountExists,
    AccountIsClosed,
    AccountNotEmpty,
    BookNotDefined,
    InsufficientFunds,
    NotAccountOwner,
    ReservedAccount,
    UnknownAccount,
)
from services.treasury.shares import vested
from tests.spec import NOW_US, Spec
from tests.treasury_given import ADA, BEN, emits, founded, sound_service, transfer

YEAR = 31_536_000
DEE = "member/" + "d" * 32


def test_a_member_gets_an_account_with_the_members_id() -> None:
    assert founded().when(OpenMemberAccount(DEE)) == [AccountOpened(DEE, DEE, "member")]


def test_opening_a_members_account_again_changes_nothing() -> None:
    spec = founded()
    assert spec.when(OpenMemberAccount(ADA)) == []
    assert spec.answer == b'{"account":"%s"}' % ADA.encode()


def test_before_any_community_no_account_is_opened() -> None:
    with pytest.raises(BookNotDefined):
        Spec(sound_service()).when(OpenMemberAccount(ADA))


def test_a_member_opens_a_named_account() -> None:
    spec = founded()
    assert spec.when(OpenAccount("savings"), ADA) == [AccountOpened(f"{ADA}/savings", ADA, "member")]
    assert spec.state.balances[f"{ADA}/savings"] == 0


@pytest.mark.parametrize("slug", ["", "Savings", "a/b", "-a", "a" * 65, "a b", "é"])
def test_a_named_account_has_a_slug(slug: str) -> None:
    with pytest.raises(InvalidField):
        founded().when(OpenAccount(slug), ADA)


def test_a_name_is_taken_once() -> None:
    spec = founded()
    spec.when(OpenAccount("savings"), ADA)
    spec.when(OpenAccount("savings"), BEN)
    with pytest.raises(AccountExists):
        spec.when(OpenAccount("savings"), ADA)


def test_who_has_no_account_opens_no_named_one() -> None:
    with pytest.raises(UnknownAccount):
        founded().when(OpenAccount("savings"), DEE)


def test_an_empty_named_account_closes_for_good() -> None:
    spec = founded()
    spec.when(OpenAccount("savings"), ADA)
    assert spec.when(CloseAccount(f"{ADA}/savings", "a.b.c"), ADA) == [AccountClosed(f"{ADA}/savings", "a.b.c")]
    with pytest.raises(AccountIsClosed):
        spec.when(CloseAccount(f"{ADA}/savings", "a.b.c"), ADA)
    with pytest.raises(AccountExists):
        spec.when(OpenAccount("savings"), ADA)


def test_an_account_with_a_balance_does_not_close() -> None:
    spec = founded(ada=100)
    spec.when(OpenAccount("savings"), ADA)
    spec.when(transfer((ADA, f"{ADA}/savings", 1)), ADA)
    with pytest.raises(AccountNotEmpty):
        spec.when(CloseAccount(f"{ADA}/savings", "a.b.c"), ADA)


def test_a_members_own_account_does_not_close() -> None:
    with pytest.raises(ReservedAccount):
        founded().when(CloseAccount(ADA, "a.b.c"), ADA)


def test_another_members_account_cannot_be_closed() -> None:
    spec = founded()
    spec.when(OpenAccount("savings"), ADA)
    with pytest.raises(NotAccountOwner):
        spec.when(CloseAccount(f"{ADA}/savings", "a.b.c"), BEN)


def test_a_vesting_account_pays_only_what_has_vested() -> None:
    account = "vesting/founders"
    schedule = VestingSchedule("4000", NOW_US // 1_000, YEAR, 4 * YEAR)
    spec = founded().given(
        *emits(AccountOpened(account, ADA, "vesting", vesting=schedule), SupplyMinted(account, "4000", "genesis"))
    )
    spec.at(NOW_US + (YEAR - 1) * 1_000_000)
    with pytest.raises(InsufficientFunds) as refusal:
        spec.when(transfer((account, BEN, 1)), ADA)
    assert refusal.value.fields["spendable"] == "0"
    spec.at(NOW_US + YEAR * 1_000_000).when(transfer((account, BEN, 1_000)), ADA)
    with pytest.raises(InsufficientFunds):
        spec.when(transfer((account, BEN, 1)), ADA)
    with pytest.raises(InsufficientFunds):
        spec.when(BurnSupply(account, "1", "a.b.c"), ADA)
    spec.at(NOW_US + 4 * YEAR * 1_000_000).when(transfer((account, BEN, 3_000)), ADA)
    assert (spec.state.balances[account], spec.state.balances[BEN]) == (0, 4_000)


def test_what_others_add_to_a_vesting_account_is_free_at_once() -> None:
    account = "vesting/founders"
    schedule = VestingSchedule("4000", NOW_US // 1_000, YEAR, 4 * YEAR)
    spec = founded(ben=50).given(
        *emits(AccountOpened(account, ADA, "vesting", vesting=schedule), SupplyMinted(account, "4000", "genesis"))
    )
    spec.when(transfer((BEN, account, 50)), BEN)
    spec.when(transfer((account, BEN, 50)), ADA)
    with pytest.raises(InsufficientFunds):
        spec.when(transfer((account, BEN, 1)), ADA)


@pytest.mark.parametrize(
    ("seconds", "amount"),
    [
        (-1, 0),
        (0, 0),
        (YEAR - 1, 0),
        (YEAR, 2_500_000),
        (2 * YEAR, 5_000_000),
        (4 * YEAR - 1, 9_999_999),
        (4 * YEAR, 10_000_000),
        (9 * YEAR, 10_000_000),
    ],
)
def test_vesting_is_linear_from_the_cliff_second_to_the_end(seconds: int, amount: int) -> None:
    schedule = VestingSchedule("10000000", 5_000, YEAR, 4 * YEAR)
    assert vested(schedule, 5_000 + seconds * 1_000) == amount


def test_vesting_counts_whole_seconds() -> None:
    schedule = VestingSchedule("1000", 0, 0, 10)
    assert [vested(schedule, time_ms) for time_ms in (0, 999, 1_000, 1_999, 9_999, 10_000)] == [
        0,
        0,
        100,
        100,
        900,
        1_000,
    ]


def test_vesting_without_duration_vests_at_once() -> None:
    assert vested(VestingSchedule("1000", 0, 0, 0), 0) == 1_000
