"""Late usage is paid from its epoch's reserve at its epoch's rate; the reserve returns after its days."""

from __future__ import annotations

import pytest

from events.treasury import AccountClosed, AccountOpened, LateReserveReleased, LateRewardsPaid, Posting
from events.values import DAY_MS
from services.treasury.commands import PayLateUsage, ReleaseLateReserve
from services.treasury.errors import EpochNotSettled, ReserveAlreadyReleased, ReserveNotDue
from services.treasury.service import due
from tests.spec import NOW_US, Spec
from tests.treasury_given import ADA, BEN, CAT, founded, node, only, scored, settle

RELEASE_MS = NOW_US // 1_000 + 35 * DAY_MS


def late(spec: Spec, *scores: tuple[int, str, int], epoch: int = 0) -> list[object]:
    return list(spec.when(PayLateUsage(epoch, "late", scored(*scores), "ungated")))


def settled() -> Spec:
    """Pool 1,000,000, late reserve 20,000, 980,000 paid for a score of 1,000: a rate of 980."""
    spec = founded()
    settle(spec, 0, scored((1, ADA, 600), (2, BEN, 400)))
    return spec


def test_late_usage_earns_what_it_would_have_earned_at_the_final_rate() -> None:
    spec = settled()
    assert late(spec, (3, CAT, 10)) == [
        LateRewardsPaid(0, "late", (node(3),), (Posting("late-reserve/0", CAT, "9800"),), "ungated")
    ]
    assert spec.state.balances["late-reserve/0"] == 10_200


def test_late_pay_is_rounded_down() -> None:
    spec = founded(emission=100)
    settle(spec, 0, scored((1, ADA, 300)))
    (fact,) = late(spec, (2, BEN, 4))
    assert fact.postings[0].amount == "1"


def test_a_short_reserve_is_shared_pro_rata_and_never_overdrawn() -> None:
    spec = settled()
    (fact,) = late(spec, (3, CAT, 30), (4, BEN, 15))
    assert [posting.amount for posting in fact.postings] == ["13333", "6666"]
    assert spec.state.balances["late-reserve/0"] == 1


def test_an_empty_reserve_pays_nothing_and_records_nothing() -> None:
    spec = settled()
    late(spec, (3, CAT, 1_000))
    assert spec.state.balances["late-reserve/0"] == 0
    assert late(spec, (4, CAT, 1_000)) == []
    assert spec.answer == b'{"epoch":0,"paid":"0"}'


def test_a_late_score_of_zero_earns_nothing() -> None:
    assert late(settled(), (3, CAT, 0)) == []


def test_late_usage_of_more_than_100_nodes_comes_in_pages() -> None:
    facts = late(settled(), *((10 + number, CAT, 1) for number in range(15)))
    assert [len(fact.nodes) for fact in facts] == [15]
    spec = founded(emission=10**9)
    settle(spec, 0, scored((1, ADA, 10**6)))
    facts = late(spec, *((10 + number, CAT, 1) for number in range(200)))
    assert [len(fact.nodes) for fact in facts] == [100, 100]


def test_a_late_owner_without_an_account_gets_one() -> None:
    dee = "member/" + "d" * 32
    facts = late(settled(), (3, dee, 1))
    assert only(facts, AccountOpened) == [AccountOpened(dee, dee, "member")]


def test_where_nothing_scored_in_time_late_usage_earns_the_rate_cap_at_most() -> None:
    spec = founded(rate_cap=1_000_000)
    settle(spec, 0, ())
    (fact,) = late(spec, (1, ADA, 700))
    assert fact.postings[0].amount == "700"


def test_late_usage_of_an_epoch_that_is_not_settled_is_refused() -> None:
    with pytest.raises(EpochNotSettled):
        late(founded(), (1, ADA, 1))


def test_the_reserve_is_due_after_its_days_of_recorded_time() -> None:
    spec = settled()
    assert due(spec.state, RELEASE_MS - 1) == ()
    (timed,) = due(spec.state, RELEASE_MS)
    assert (timed.key, timed.command) == ("release-late-reserve/0", ReleaseLateReserve(0))


def test_a_release_before_its_time_is_refused() -> None:
    spec = settled().at((RELEASE_MS - 1) * 1_000)
    with pytest.raises(ReserveNotDue):
        spec.when(ReleaseLateReserve(0), "clock")


def test_what_is_left_of_the_reserve_returns_to_the_emission_reserve() -> None:
    spec = settled()
    late(spec, (3, CAT, 10))
    facts = spec.at(RELEASE_MS * 1_000).when(ReleaseLateReserve(0), "clock")
    assert facts == [
        LateReserveReleased(0, (Posting("late-reserve/0", "pool/emission-reserve", "10200"),)),
        AccountClosed("late-reserve/0"),
    ]
    assert spec.state.balances["pool/emission-reserve"] == 10_200
    assert due(spec.state, RELEASE_MS) == ()


def test_an_empty_reserve_is_released_without_postings() -> None:
    spec = settled()
    late(spec, (3, CAT, 1_000))
    facts = spec.at(RELEASE_MS * 1_000).when(ReleaseLateReserve(0), "clock")
    assert facts[0] == LateReserveReleased(0, ())


def test_after_the_release_late_usage_earns_nothing() -> None:
    spec = settled().at(RELEASE_MS * 1_000)
    spec.when(ReleaseLateReserve(0), "clock")
    assert late(spec, (3, CAT, 10)) == []


def test_a_reserve_is_released_once() -> None:
    spec = settled().at(RELEASE_MS * 1_000)
    spec.when(ReleaseLateReserve(0), "clock")
    with pytest.raises(ReserveAlreadyReleased):
        spec.when(ReleaseLateReserve(0), "clock")


def test_an_epoch_that_is_not_settled_has_no_reserve_to_release() -> None:
    with pytest.raises(EpochNotSettled):
        founded().when(ReleaseLateReserve(0), "clock")


def test_several_reserves_come_due_in_epoch_order() -> None:
    spec = founded()
    for epoch in (11, 2, 7):
        settle(spec, epoch, scored((1, ADA, 5)))
    assert [timed.command for timed in due(spec.state, RELEASE_MS)] == [ReleaseLateReserve(n) for n in (2, 7, 11)]
