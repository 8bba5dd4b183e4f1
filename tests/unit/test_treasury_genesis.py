"""The initial distribution comes out to the last unit, or not at all."""

from __future__ import annotations

from typing import Any

import pytest

from events.genesis import Pool, Vesting
from events.treasury import AccountOpened, AssetDefined, FundOpened, SupplyMinted, VestingSchedule
from services.treasury.commands import AdoptGenesis, OpenMemberAccount
from services.treasury.errors import BookAlreadyDefined, DistributionInconsistent
from tests.spec import NOW_US, Spec
from tests.treasury_given import ADA, BEN, BOOK, backfill, community, emits, only, sound_service

FOUNDED_MS = NOW_US // 1_000


def adopt(*pools: Pool, **fields: Any) -> Spec:
    spec = Spec(sound_service())
    spec.when(AdoptGenesis(community(*pools, **fields), FOUNDED_MS))
    return spec


def test_the_book_is_defined_first() -> None:
    spec = Spec(sound_service())
    emits = spec.decide(AdoptGenesis(community(Pool(name="all", share_ppm=1_000_000)), FOUNDED_MS))
    assert {emit.stream for emit in emits} == {BOOK}
    assert emits[0].fact == AssetDefined("COMPUTE", 6, "10000000000", "1000000", 20_000, 35, "1000000000")


def test_a_pool_becomes_an_account_of_the_community() -> None:
    spec = adopt(Pool(name="treasury", share_ppm=1_000_000))
    assert spec.state.balances["pool/treasury"] == 1_000_000_000
    assert spec.state.accounts["pool/treasury"].owner == "community"


def test_shares_that_do_not_divide_sum_to_the_supply_exactly() -> None:
    pools = [Pool(name=name, share_ppm=share) for name, share in (("a", 333_333), ("b", 333_333), ("c", 333_334))]
    spec = adopt(*pools, supply=1_000_001)
    amounts = [spec.state.balances[f"pool/{name}"] for name in "abc"]
    assert amounts == [333_333, 333_333, 333_335]
    assert sum(amounts) == spec.state.supply.minted == 1_000_001


def test_the_emission_reserve_always_exists() -> None:
    assert adopt(Pool(name="all", share_ppm=1_000_000)).state.balances["pool/emission-reserve"] == 0
    assert adopt(Pool(name="emission-reserve", share_ppm=1_000_000)).state.balances["pool/emission-reserve"] == 10**9


def test_a_members_pool_goes_to_the_members_account() -> None:
    spec = adopt(
        Pool(name="first", share_ppm=400_000, member="ada"), Pool(name="second", share_ppm=600_000, member="ada")
    )
    assert spec.state.balances[ADA] == 1_000_000_000
    assert spec.when(OpenMemberAccount(ADA)) == []
    assert len(spec.when(OpenMemberAccount(BEN))) == 1


def test_an_account_the_registrys_policy_opened_first_is_not_opened_again() -> None:
    spec = Spec(sound_service())
    spec.given(*emits(AccountOpened(ADA, ADA, "member")))
    facts = spec.when(AdoptGenesis(community(Pool(name="x", share_ppm=1_000_000, member="ada")), FOUNDED_MS))
    assert ADA not in {fact.account for fact in only(facts, AccountOpened)}
    assert spec.state.balances[ADA] == 1_000_000_000


def test_a_vesting_pool_has_an_account_with_its_schedule() -> None:
    pool = Pool(
        name="founders", share_ppm=1_000_000, member="ben", vesting=Vesting(cliff_seconds=5, duration_seconds=9)
    )
    account = adopt(pool).state.accounts["vesting/founders"]
    assert (account.owner, account.kind) == (BEN, "vesting")
    assert account.vesting == VestingSchedule("1000000000", FOUNDED_MS, 5, 9)


def test_a_backfills_pool_is_its_fund() -> None:
    pools = (Pool(name="backfill-openb", share_ppm=250_000), Pool(name="rest", share_ppm=750_000))
    spec = Spec(sound_service())
    document = community(*pools, backfills=(backfill("openb", 250_000_000, 1_000),))
    assert only(spec.when(AdoptGenesis(document, FOUNDED_MS)), FundOpened) == [
        FundOpened("openb", "fund/openb", "1000")
    ]
    assert spec.state.balances["fund/openb"] == 250_000_000
    assert "pool/backfill-openb" not in spec.state.accounts


def test_a_backfill_without_a_fund_has_an_empty_one() -> None:
    spec = adopt(Pool(name="all", share_ppm=1_000_000), backfills=(backfill("openb", 0, 1_000),))
    assert spec.state.balances["fund/openb"] == 0


def test_a_pool_named_like_a_backfill_that_is_none_is_a_pool() -> None:
    assert adopt(Pool(name="backfill-x", share_ppm=1_000_000)).state.balances["pool/backfill-x"] == 1_000_000_000


def test_a_share_of_nothing_mints_nothing() -> None:
    spec = Spec(sound_service())
    document = community(Pool(name="all", share_ppm=1_000_000), Pool(name="none", share_ppm=0))
    assert len(only(spec.when(AdoptGenesis(document, FOUNDED_MS)), SupplyMinted)) == 1
    assert spec.state.balances["pool/none"] == 0


@pytest.mark.parametrize("share", [999_900, 1_000_001])
def test_shares_of_not_exactly_100_percent_are_refused(share: int) -> None:
    with pytest.raises(DistributionInconsistent):
        adopt(Pool(name="all", share_ppm=share))


def test_a_fund_that_is_not_its_pools_share_is_refused() -> None:
    pools = (Pool(name="backfill-openb", share_ppm=250_000), Pool(name="rest", share_ppm=750_000))
    with pytest.raises(DistributionInconsistent):
        adopt(*pools, backfills=(backfill("openb", 250_000_001, 1_000),))


def test_an_initial_supply_above_the_cap_is_refused() -> None:
    with pytest.raises(DistributionInconsistent):
        adopt(Pool(name="all", share_ppm=1_000_000), supply=1_001, cap=1_000)


def test_a_pool_for_a_stranger_is_refused() -> None:
    with pytest.raises(DistributionInconsistent):
        adopt(Pool(name="all", share_ppm=1_000_000, member="zoe"))


def test_two_pools_of_one_name_are_refused() -> None:
    with pytest.raises(DistributionInconsistent):
        adopt(Pool(name="x", share_ppm=500_000), Pool(name="x", share_ppm=500_000))


def test_an_amount_that_does_not_parse_is_refused() -> None:
    with pytest.raises(DistributionInconsistent):
        adopt(Pool(name="all", share_ppm=1_000_000), cap="1.5")


def test_genesis_is_adopted_once() -> None:
    spec = adopt(Pool(name="all", share_ppm=1_000_000))
    with pytest.raises(BookAlreadyDefined):
        spec.when(AdoptGenesis(community(Pool(name="all", share_ppm=1_000_000)), FOUNDED_MS))
