"""A part of every reward waits on the epoch's holdback account, until metering says whose it is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from events.envelope import Fact
from events.genesis import SubPool
from events.treasury import (
    AccountClosed,
    AccountOpened,
    EpochSettled,
    HoldbackForfeitBooked,
    HoldbackPaid,
    LateRewardsPaid,
    NodeReward,
    Posting,
    RewardsPaid,
)
from events.values import DAY_MS
from services.kernel.snapshot import freeze, thaw
from services.treasury.commands import ForfeitHoldback, PayLateUsage, ReleaseHoldback, ReleaseLateReserve
from services.treasury.errors import EpochNotSettled
from services.treasury.state import Book
from tests.spec import NOW_US, Spec
from tests.treasury_given import (
    ADA,
    BEN,
    CAT,
    RATE_CAP,
    founded,
    late_pages,
    node,
    only,
    scored,
    settle,
    settle_kinds,
    with_fund,
)

TENTH = 100_000
RELEASE_US = NOW_US + 35 * DAY_MS * 1_000


def holding(**terms: int) -> Spec:
    """Ada's first node has earned 600,007 and Ben's second 379,993 of the pool; a tenth of it is held."""
    spec = founded(holdback_ppm=TENTH, **terms)
    settle(spec, 0, scored((1, ADA, 600_007), (2, BEN, 379_993)))
    return spec


def release(spec: Spec, *numbers: int, epoch: int = 0) -> Sequence[Fact]:
    nodes = tuple(node(number) for number in numbers)
    return spec.when(ReleaseHoldback(epoch, "gpu", nodes, "released", "ungated"))


def forfeit(spec: Spec, *numbers: int, epoch: int = 0) -> Sequence[Fact]:
    return spec.when(ForfeitHoldback(epoch, "gpu", tuple(node(number) for number in numbers), "forfeited"))


def late(
    spec: Spec, *scores: tuple[int, str, int], scored_in: int = 1, again: tuple[str, ...] = ()
) -> list[LateRewardsPaid]:
    (command,) = late_pages(0, scored_in, scored(*scores))
    facts = spec.when(PayLateUsage(*(getattr(command, name) for name in command.__slots__[:-1]), again))
    return only(facts, LateRewardsPaid)  # type: ignore[return-value]


def test_a_part_of_every_reward_waits() -> None:
    spec = founded(holdback_ppm=TENTH)
    facts = settle(spec, 0, scored((1, ADA, 600_007), (2, BEN, 379_993)))
    assert [fact.account for fact in only(facts, AccountOpened)] == ["epoch/0", "late-reserve/0", "holdback/0"]
    # 600,007 and 379,993 are earned; 60,000.7 and 37,999.3 of it would be held: rounded down.
    assert only(facts, RewardsPaid) == [
        RewardsPaid(
            0,
            0,
            (node(1), node(2)),
            (
                Posting("epoch/0", ADA, "540007"),
                Posting("epoch/0", BEN, "341994"),
                Posting("epoch/0", "holdback/0", "97999"),
            ),
            held=(NodeReward(node(1), ADA, "60000"), NodeReward(node(2), BEN, "37999")),
        )
    ]
    (settled,) = only(facts, EpochSettled)
    assert (settled.paid, settled.holdback_ppm) == ("980000", TENTH)
    assert spec.state.balances["holdback/0"] == 97_999
    assert thaw(freeze(spec.state), Book) == spec.state


def test_a_whole_reward_that_waits_is_no_posting_to_its_owner() -> None:
    spec = founded(holdback_ppm=1_000_000)
    (page,) = only(settle(spec, 0, scored((1, ADA, 5))), RewardsPaid)
    assert (page.nodes, page.postings) == ((), (Posting("epoch/0", "holdback/0", "980000"),))
    release(spec, 1)
    assert spec.state.balances[ADA] == 980_000


def test_payouts_with_a_holdback_never_pass_100_postings() -> None:
    spec = founded(holdback_ppm=TENTH, emission=10**9)
    pages = only(settle(spec, 0, scored(*((number, ADA, 1) for number in range(250)))), RewardsPaid)
    assert [(len(page.nodes), len(page.postings)) for page in pages] == [(98, 99), (98, 99), (54, 55)]
    release(spec, *range(250))
    assert spec.state.balances[ADA] == 980_000_000
    assert spec.state.balances["holdback/0"] == 0


def test_a_backfill_holds_nothing_back() -> None:
    spec = with_fund(founded(holdback_ppm=TENTH), "old", 2_500, 1_000)
    facts = settle(spec, 0, scored((1, ADA, 5)), "old")
    assert spec.state.balances[ADA] == 980
    assert "holdback/0" not in spec.state.accounts
    assert b"held" not in repr([fact for fact in only(facts, RewardsPaid) if fact.held]).encode()


def test_what_is_released_goes_to_its_owner() -> None:
    spec = holding()
    assert release(spec, 1) == [
        HoldbackPaid(
            0,
            "gpu",
            "released",
            (node(1),),
            (NodeReward(node(1), ADA, "60000"),),
            (Posting("holdback/0", ADA, "60000"),),
            "ungated",
        )
    ]
    assert (spec.state.balances[ADA], spec.state.balances["holdback/0"]) == (600_007, 37_999)


def test_what_is_forfeited_goes_to_the_community() -> None:
    spec = holding()
    assert forfeit(spec, 2) == [
        AccountOpened("treasury/forfeits", "community", "treasury"),
        HoldbackForfeitBooked(
            0,
            "gpu",
            "forfeited",
            (node(2),),
            (NodeReward(node(2), BEN, "37999"),),
            (Posting("holdback/0", "treasury/forfeits", "37999"),),
        ),
    ]
    assert (spec.state.balances[BEN], spec.state.balances["treasury/forfeits"]) == (341_994, 37_999)
    assert [type(fact) for fact in forfeit(spec, 1)] == [HoldbackForfeitBooked]


def test_a_holdback_ends_once() -> None:
    spec = holding()
    release(spec, 1)
    forfeit(spec, 2)
    before = spec.state
    assert [*release(spec, 1, 2), *forfeit(spec, 1, 2)] == []
    assert spec.state == before


def test_an_epoch_that_is_not_settled_holds_nothing() -> None:
    for command in (ReleaseHoldback(0, "gpu", (), "fact", "ungated"), ForfeitHoldback(0, "gpu", (), "fact")):
        with pytest.raises(EpochNotSettled):
            founded().when(command)


def test_late_pay_of_what_is_held_is_held_as_if_all_had_come_in_time() -> None:
    spec = holding(emission=2_000_000, rate_cap=1_000_000)
    (paid,) = late(spec, (1, ADA, 4))
    # 600,011 in all: 60,001 of it is held, and 60,000 was; three of the four are paid.
    assert paid.postings == (Posting("late-reserve/0", ADA, "3"), Posting("late-reserve/0", "holdback/0", "1"))
    assert paid.held == (NodeReward(node(1), ADA, "1"),)
    release(spec, 1)
    assert spec.state.balances[ADA] == 600_011


def test_what_comes_late_only_is_held_too() -> None:
    spec = founded(holdback_ppm=TENTH, rate_cap=1_000_000)
    settle(spec, 0, ())
    assert "holdback/0" not in spec.state.accounts
    (paid,) = late(spec, (3, CAT, 700))
    assert paid.held == (NodeReward(node(3), CAT, "70"),)
    forfeit(spec, 3)
    assert (spec.state.balances[CAT], spec.state.balances["treasury/forfeits"]) == (630, 70)


def test_late_pay_after_the_release_is_paid_whole() -> None:
    spec = holding(emission=2_000_000, rate_cap=1_000_000)
    release(spec, 1)
    (paid,) = late(spec, (1, ADA, 100))
    assert (paid.postings, paid.held) == ((Posting("late-reserve/0", ADA, "100"),), ())


def test_late_pay_of_what_the_release_did_not_cover_is_held_again() -> None:
    spec = holding(emission=2_000_000, rate_cap=1_000_000)
    release(spec, 1)
    late(spec, (1, ADA, 100), scored_in=1)
    (paid,) = late(spec, (1, ADA, 103), scored_in=2, again=(node(1),))
    assert paid.held == (NodeReward(node(1), ADA, "11"),)  # 600,110 in all, but for what was paid whole
    assert spec.state.balances["holdback/0"] == 37_999 + 11
    forfeit(spec, 1)
    assert spec.state.balances["treasury/forfeits"] == 11


def test_after_a_forfeit_the_held_part_of_late_pay_is_forfeited_and_counts_as_paid() -> None:
    spec = holding(emission=2_000_000, rate_cap=1_000_000)
    forfeit(spec, 1)
    (paid,) = late(spec, (1, ADA, 1_000))
    assert paid.forfeited == (NodeReward(node(1), ADA, "100"),)
    assert paid.postings[-1] == Posting("late-reserve/0", "treasury/forfeits", "100")
    kept = spec.state.epochs.settled[0, "gpu"].late
    assert kept is not None
    assert kept.owners[ADA].paid == 601_007


def test_a_node_of_which_nothing_was_held_is_remembered_while_late_pay_may_come() -> None:
    spec = holding(emission=2_000_000, rate_cap=1_000_000)
    (fact,) = release(spec, 9)
    assert (fact.nodes, fact.rewards, fact.postings) == ((node(9),), (), ())
    (paid,) = late(spec, (9, CAT, 100))
    assert paid.postings == (Posting("late-reserve/0", CAT, "100"),)


def test_the_account_closes_when_all_has_ended_and_no_late_pay_can_come() -> None:
    spec = holding()
    release(spec, 1)
    spec.at(RELEASE_US).when(ReleaseLateReserve(0), "clock")
    assert not spec.state.accounts["holdback/0"].closed
    assert [type(fact) for fact in forfeit(spec, 2)][-1] is AccountClosed
    assert (spec.state.balances["holdback/0"], dict(spec.state.epochs.held)) == (0, {})
    assert list(release(spec, 9)) == []


def test_the_account_closes_with_the_last_reserve_where_all_had_ended() -> None:
    pools = (SubPool("gpu", 500_000, str(RATE_CAP)), SubPool("cpu", 500_000, str(RATE_CAP)))
    spec = founded(holdback_ppm=TENTH, sub_pools=pools)
    settle_kinds(spec, 0, {"gpu": scored((1, ADA, 5)), "cpu": scored((1, ADA, 5))})
    assert spec.state.balances["holdback/0"] == 98_000
    release(spec, 1)
    spec.when(ForfeitHoldback(0, "cpu", (node(1),), "forfeited"))
    spec.at(RELEASE_US)
    assert AccountClosed("holdback/0") not in spec.when(ReleaseLateReserve(0), "clock")
    assert spec.when(ReleaseLateReserve(0, "cpu"), "clock")[-1] == AccountClosed("holdback/0")
    assert spec.state.balances["treasury/forfeits"] == 49_000
    assert not spec.state.epochs.held
