"""Where a community names sub-pools, every kind is settled as a pool of its own, to the last unit."""

from __future__ import annotations

import pytest

from events.envelope import encode_data
from events.genesis import MeteringRules, Pool, SubPool
from events.treasury import (
    AccountClosed,
    AccountOpened,
    AssetDefined,
    EpochPoolFunded,
    EpochSettled,
    LateRewardsPaid,
    Posting,
    RewardsPaid,
    SupplyMinted,
)
from events.values import DAY_MS
from services.kernel.snapshot import freeze, thaw
from services.treasury.commands import AdoptGenesis, NoteEpochScores, ReleaseLateReserve
from services.treasury.errors import (
    DistributionInconsistent,
    EpochAlreadySettled,
    EpochNotSettled,
    ScoresAlreadyNoted,
    ScoresIncomplete,
)
from services.treasury.service import due
from services.treasury.state import Book
from tests.spec import NOW_US, Spec
from tests.treasury_given import (
    ADA,
    BEN,
    CAT,
    RATE_CAP,
    community,
    founded,
    late_pages,
    node,
    only,
    scored,
    settle,
    settle_kinds,
    sound_service,
    with_fund,
)

POOLS = (
    SubPool("storage", 100_000, str(RATE_CAP)),
    SubPool("gpu", 700_000, str(RATE_CAP)),
    SubPool("cpu", 200_000, "2000000"),
)
"""In no order; cores earn at most 2 base units per micro core-hour."""


def pooled(**terms: int) -> Spec:
    return founded(sub_pools=POOLS, **terms)


def settled(facts: object) -> dict[str, tuple[int, int, int, int]]:
    """(pool, paid, late reserve, kept) by kind; each comes out exactly."""
    found = {}
    for fact in only(facts, EpochSettled):  # type: ignore[arg-type]
        parts = int(fact.paid), int(fact.late_reserve), int(fact.kept)
        assert sum(parts) == int(fact.pool)
        found[fact.kind or "gpu"] = (int(fact.pool), *parts)
    return found


def test_an_epoch_of_three_kinds_computed_by_hand() -> None:
    spec = pooled(emission=1_000_003)
    scores = {"gpu": scored((1, ADA, 3), (2, BEN, 1)), "cpu": scored((1, ADA, 10)), "storage": scored((3, CAT, 7))}
    facts = settle_kinds(spec, 7, scores)
    # 700,002.1 and 200,000.6 and 100,000.3: the largest remainder is that of the cores.
    assert settled(facts) == {
        "gpu": (700_002, 686_002, 14_000, 0),
        "cpu": (200_001, 20, 4_000, 195_981),
        "storage": (100_000, 98_000, 2_000, 0),
    }
    assert [fact.account for fact in only(facts, AccountOpened)] == [
        "epoch/7",
        "late-reserve/7",
        "epoch/7/cpu",
        "late-reserve/7/cpu",
        "epoch/7/storage",
        "late-reserve/7/storage",
    ]
    assert only(facts, SupplyMinted) == [
        SupplyMinted("epoch/7", "700002", "emission", 7),
        SupplyMinted("epoch/7/cpu", "200001", "emission", 7),
        SupplyMinted("epoch/7/storage", "100000", "emission", 7),
    ]
    assert RewardsPaid(7, 0, (node(1),), (Posting("epoch/7/cpu", ADA, "20"),), "cpu") in facts
    assert [fact.account for fact in only(facts, AccountClosed)] == ["epoch/7", "epoch/7/cpu", "epoch/7/storage"]
    assert spec.state.balances[ADA] == 514_502 + 20
    assert spec.state.supply.minted == 1_000_003
    assert thaw(freeze(spec.state), Book) == spec.state


def test_a_kind_without_any_score_keeps_its_whole_pool_but_the_reserve() -> None:
    facts = settle_kinds(pooled(), 0, {"gpu": scored((1, ADA, 3))})
    assert settled(facts)["cpu"] == (200_000, 0, 4_000, 196_000)
    assert settled(facts)["storage"] == (100_000, 0, 2_000, 98_000)


def test_a_backfills_pool_is_divided_in_the_same_way() -> None:
    spec = with_fund(pooled(), "old", 2_500, 1_000)
    facts = settle_kinds(spec, 0, {"cpu": scored((1, ADA, 10**9))}, "old")
    assert only(facts, EpochPoolFunded)[1:] == [
        EpochPoolFunded(0, (Posting("fund/old", "epoch/0/cpu", "200"),), "200", "cpu"),
        EpochPoolFunded(0, (Posting("fund/old", "epoch/0/storage", "100"),), "100", "storage"),
    ]
    assert settled(facts)["cpu"] == (200, 196, 4, 0)


def test_where_gpus_have_no_sub_pool_they_share_out_nothing() -> None:
    spec = founded(sub_pools=(SubPool("cpu", 1_000_000, str(RATE_CAP)),))
    facts = settle_kinds(spec, 0, {"gpu": scored((1, ADA, 3)), "cpu": scored((2, BEN, 3))})
    assert settled(facts) == {"gpu": (0, 0, 0, 0), "cpu": (1_000_000, 980_000, 20_000, 0)}


def test_without_sub_pools_every_byte_is_what_it_was() -> None:
    facts = settle(founded(), 7, scored((1, ADA, 5)))
    assert all(b'kind":"gpu' not in bytes(encode_data(fact)) for fact in facts)
    (paid,) = only(facts, RewardsPaid)
    assert bytes(encode_data(paid)) == (
        b'{"epoch":7,"page":0,"nodes":["%s"],"postings":[["epoch/7","%s","980000"]]}' % (node(1).encode(), ADA.encode())
    )
    document = community(Pool(name="all", share_ppm=1_000_000))
    (asset,) = only(Spec(sound_service()).when(AdoptGenesis(document, 0)), AssetDefined)
    assert bytes(encode_data(asset)).endswith(b'"rate_cap_per_rgpu_hour":"1000000000"}')


def test_a_page_of_a_kind_without_a_sub_pool_is_refused() -> None:
    with pytest.raises(ScoresIncomplete):
        founded().when(NoteEpochScores(0, 0, "page", scored((1, ADA, 1)), "cpu"))


def test_page_numbers_run_through_all_kinds() -> None:
    spec = pooled()
    spec.when(NoteEpochScores(0, 0, "page", scored((1, ADA, 1))))
    with pytest.raises(ScoresAlreadyNoted):
        spec.when(NoteEpochScores(0, 0, "page", scored((1, ADA, 1)), "cpu"))


def test_a_kinds_total_has_to_be_what_metering_says() -> None:
    spec = pooled()
    with pytest.raises(ScoresIncomplete):
        settle_kinds(spec, 0, {"gpu": scored((1, ADA, 3)), "cpu": ()} | {"bandwidth": scored((1, ADA, 1))})
    settle_kinds(spec, 1, {"gpu": scored((1, ADA, 3)), "cpu": scored((1, ADA, 3))})
    with pytest.raises(EpochAlreadySettled):
        settle_kinds(spec, 1, {})


def test_late_usage_is_paid_from_the_reserve_of_its_kind() -> None:
    spec = pooled()
    settle_kinds(spec, 0, {"gpu": scored((1, ADA, 3)), "cpu": scored((1, ADA, 10))})
    (command,) = late_pages(0, 1, scored((2, BEN, 4)), kind="cpu")
    facts = spec.when(command)
    assert only(facts, LateRewardsPaid) == [
        LateRewardsPaid(0, "late-1-0", (node(2),), (Posting("late-reserve/0/cpu", BEN, "8"),), "ungated", "cpu")
    ]
    (unknown,) = late_pages(0, 1, scored((2, BEN, 4)), kind="bandwidth")
    with pytest.raises(EpochNotSettled):
        spec.when(unknown)


def test_every_kinds_reserve_comes_due_and_is_released_by_itself() -> None:
    spec = pooled()
    settle_kinds(spec, 0, {"gpu": scored((1, ADA, 3))})
    release_ms = NOW_US // 1_000 + 35 * DAY_MS
    timed = due(spec.state, release_ms)
    assert [one.key for one in timed] == [
        "release-late-reserve/0",
        "release-late-reserve/0/cpu",
        "release-late-reserve/0/storage",
    ]
    spec.at(release_ms * 1_000).when(ReleaseLateReserve(0, "cpu"), "clock")
    assert [one.command for one in due(spec.state, release_ms)] == [
        ReleaseLateReserve(0),
        ReleaseLateReserve(0, "storage"),
    ]
    assert spec.state.balances["late-reserve/0/cpu"] == 0
    assert spec.state.balances["late-reserve/0/storage"] == 2_000


@pytest.mark.parametrize(
    "rules",
    [
        MeteringRules(sub_pools=(SubPool("gpu", 999_999, "1"),)),
        MeteringRules(sub_pools=(SubPool("gpu", 1_000_001, "1"), SubPool("cpu", -1, "1"))),
        MeteringRules(sub_pools=(SubPool("gpu", 500_000, "1"), SubPool("gpu", 500_000, "1"))),
        MeteringRules(sub_pools=(SubPool("gpu", 1_000_000, "-1"),)),
        MeteringRules(holdback_ppm=1_000_001),
    ],
)
def test_sub_pools_that_do_not_come_out_exactly_found_nothing(rules: MeteringRules) -> None:
    document = community(Pool(name="all", share_ppm=1_000_000))
    fields = {name: getattr(document, name) for name in document.__struct_fields__} | {"metering": rules}
    with pytest.raises(DistributionInconsistent):
        Spec(sound_service()).when(AdoptGenesis(type(document)(**fields), 0))
