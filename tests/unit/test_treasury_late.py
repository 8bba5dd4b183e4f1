"""Late usage is paid from its epoch's reserve, never above what being in time paid; the reserve returns after days."""

from __future__ import annotations

from itertools import permutations

import pytest

from events.treasury import (
    AccountClosed,
    AccountOpened,
    LateReserveReleased,
    LateRewardsPaid,
    LateScoresNoted,
    Posting,
)
from events.values import DAY_MS
from services.kernel.snapshot import freeze, thaw
from services.treasury.commands import PayLateUsage, ReleaseLateReserve
from services.treasury.errors import (
    EpochNotSettled,
    ReserveAlreadyReleased,
    ReserveNotDue,
    ScoresAlreadyNoted,
    ScoresIncomplete,
)
from services.treasury.service import due
from services.treasury.state import Book
from tests.spec import NOW_US, Spec
from tests.treasury_given import ADA, BEN, CAT, founded, late_pages, node, only, scored, settle

RELEASE_MS = NOW_US // 1_000 + 35 * DAY_MS


def late(spec: Spec, *scores: tuple[int, str, int], epoch: int = 0, scored_in: int = 1) -> list[object]:
    (command,) = late_pages(epoch, scored_in, scored(*scores))
    return list(spec.when(command))


def paid(spec: Spec, *scores: tuple[int, str, int], epoch: int = 0, scored_in: int = 1) -> list[int]:
    """Return what each payout of late usage came to, in node order."""
    facts = only(late(spec, *scores, epoch=epoch, scored_in=scored_in), LateRewardsPaid)
    return [int(posting.amount) for fact in facts for posting in fact.postings]


def settled() -> Spec:
    """Pool 1,000,000, late reserve 20,000, 980,000 paid for a score of 1,000: a rate of 980."""
    spec = founded()
    settle(spec, 0, scored((1, ADA, 600), (2, BEN, 400)))
    return spec


def test_late_usage_earns_what_it_would_have_earned_in_time() -> None:
    spec = settled()
    # 980,000 x 10/1,010, which is less than 10 x 980.
    assert late(spec, (3, CAT, 10)) == [
        LateScoresNoted(0, 1, 0, 1, "late-1-0", scored((3, CAT, 10))),
        LateRewardsPaid(0, "late-1-0", (node(3),), (Posting("late-reserve/0", CAT, "9702"),), "ungated"),
    ]
    assert spec.state.balances["late-reserve/0"] == 10_298


def test_a_sole_provider_earns_nothing_by_being_late() -> None:
    spec = founded()
    settle(spec, 0, scored((1, ADA, 981)))
    assert paid(spec, (1, ADA, 19)) == []
    assert spec.state.balances[ADA] == 980_000


def test_late_usage_on_another_node_of_the_same_owner_earns_nothing_more() -> None:
    spec = settled()
    # Ada has 588,000; in time her 620 of 1,020 would have earned 595,686 and not 588,000 + 20 x 980.
    assert paid(spec, (3, ADA, 20)) == [576_470 + 19_215 - 588_000]


def test_what_rounding_might_have_taken_from_each_node_is_not_paid_late() -> None:
    spec = founded(emission=60, late_ppm=900_000)
    settle(spec, 0, scored((1, ADA, 6), (2, BEN, 8), (3, BEN, 3), (4, ADA, 6)))
    # Of 6 base units Ada's three nodes would have earned 2.36, 0.36 and 1.27 in time: 3 in all, which she has.
    assert spec.state.balances[ADA] == 3
    assert paid(spec, (1, ADA, 7), (5, ADA, 2), (4, ADA, 1)) == []


def test_late_usage_in_parts_earns_no_more_than_at_once() -> None:
    spec, other = settled(), settled()
    (at_once,) = paid(spec, (3, CAT, 10))
    parts = [amount for number in range(10) for amount in paid(other, (3, CAT, 1), scored_in=1 + number)]
    assert sum(parts) == at_once


def test_late_usage_of_others_lowers_what_each_would_have_earned() -> None:
    spec = settled()
    # In time 980,000 would have been divided by 1,015: Ben would have had 391,033, and has 392,000.
    assert paid(spec, (3, CAT, 10), (4, BEN, 5)) == [9_655]


def test_under_the_rate_cap_late_usage_earns_exactly_the_cap() -> None:
    spec = founded(rate_cap=3_000_000)
    settle(spec, 0, scored((1, ADA, 600), (2, BEN, 400)))
    assert paid(spec, (1, ADA, 10), (3, CAT, 7)) == [30, 21]


def test_late_usage_that_would_have_exhausted_the_pool_earns_the_rest_of_it() -> None:
    spec = founded(rate_cap=1_000_000_000, late_ppm=500_000)
    settle(spec, 0, scored((1, ADA, 300)))
    # 300 x 1,000 were paid of 500,000; in time 500,000 x 900/900 would have been.
    assert paid(spec, (1, ADA, 600)) == [200_000]


def test_late_pay_is_rounded_down() -> None:
    spec = founded(emission=100)
    settle(spec, 0, scored((1, ADA, 300)))
    assert paid(spec, (2, BEN, 4)) == [1]


def test_a_short_reserve_is_shared_pro_rata_and_never_overdrawn() -> None:
    spec = settled()
    # 28,130 and 14,065 would have been earned in time.
    assert paid(spec, (3, CAT, 30), (4, "member/" + "d" * 32, 15)) == [13_333, 6_666]
    assert spec.state.balances["late-reserve/0"] == 1


def test_an_empty_reserve_pays_nothing() -> None:
    spec = settled()
    late(spec, (3, CAT, 1_000))
    assert spec.state.balances["late-reserve/0"] == 0
    assert paid(spec, (4, CAT, 1_000), scored_in=2) == []
    assert spec.answer == b'{"epoch":0,"paid":"0"}'


def test_a_late_score_of_zero_earns_nothing() -> None:
    assert paid(settled(), (3, CAT, 0)) == []


def test_late_usage_of_more_than_100_nodes_comes_in_pages() -> None:
    spec = founded(emission=10**9)
    settle(spec, 0, scored((1, ADA, 10**6)))
    facts = late(spec, *((10 + number, CAT, 1) for number in range(200)))
    assert [len(fact.nodes) for fact in only(facts, LateRewardsPaid)] == [100, 100]


def test_pages_of_late_scores_are_paid_together_when_the_last_is_there_in_any_order() -> None:
    scores = scored((3, CAT, 30), (4, "member/" + "d" * 32, 15), (5, CAT, 5))
    whole = settled()
    (command,) = late_pages(0, 1, scores)
    whole.when(command)
    for pages in permutations(late_pages(0, 1, scores, page=1)):
        spec = settled()
        for page in pages[:-1]:
            assert [type(fact) for fact in spec.when(page)] == [LateScoresNoted]
            assert thaw(freeze(spec.state), Book) == spec.state
        facts = spec.when(pages[-1])
        assert only(facts, LateRewardsPaid)[0].nodes == (node(3), node(4), node(5))
        assert spec.state == whole.state


def test_a_late_page_is_noted_once() -> None:
    spec = settled()
    first, second = late_pages(0, 1, scored((3, CAT, 1), (4, CAT, 1)), page=1)
    spec.when(first)
    with pytest.raises(ScoresAlreadyNoted):
        spec.when(first)
    spec.when(second)
    for page in (first, second):
        with pytest.raises(ScoresAlreadyNoted):
            spec.when(page)


@pytest.mark.parametrize(
    ("total", "scores"),
    [("3", ((3, CAT, 2),)), ("-2", ((3, CAT, -2),)), ("4", ((3, CAT, 2), (3, CAT, 2)))],
)
def test_late_scores_that_are_not_what_metering_says_are_not_paid(total: str, scores: tuple) -> None:
    spec = settled()
    with pytest.raises(ScoresIncomplete):
        spec.when(PayLateUsage(0, 1, 0, 1, total, "late", scored(*scores), "ungated"))


def test_a_late_owner_without_an_account_gets_one() -> None:
    dee = "member/" + "d" * 32
    facts = late(settled(), (3, dee, 1))
    assert only(facts, AccountOpened) == [AccountOpened(dee, dee, "member")]


def test_where_nothing_scored_in_time_late_usage_earns_the_rate_cap_at_most() -> None:
    spec = founded(rate_cap=1_000_000)
    settle(spec, 0, ())
    assert paid(spec, (1, ADA, 700)) == [700]


def test_what_bounds_late_pay_is_kept_until_the_release_only() -> None:
    spec = settled()
    kept = spec.state.epochs.settled[0, "gpu"].late
    assert kept is not None
    assert {owner: (earned.paid, dict(earned.scores)) for owner, earned in kept.owners.items()} == {
        ADA: (588_000, {node(1): 600}),
        BEN: (392_000, {node(2): 400}),
    }
    assert not spec.state.epochs.paying
    spec.at(RELEASE_MS * 1_000).when(ReleaseLateReserve(0), "clock")
    assert spec.state.epochs.settled[0, "gpu"].late is None
    assert thaw(freeze(spec.state), Book) == spec.state


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
        LateReserveReleased(0, (Posting("late-reserve/0", "pool/emission-reserve", "10298"),)),
        AccountClosed("late-reserve/0"),
    ]
    assert spec.state.balances["pool/emission-reserve"] == 10_298
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
