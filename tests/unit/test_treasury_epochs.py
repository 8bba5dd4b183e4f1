"""An epoch's pool is accounted for to the last unit: funded, paid, reserved, kept."""

from __future__ import annotations

import pytest

from events.treasury import (
    AccountClosed,
    AccountOpened,
    EpochPoolFunded,
    EpochScoresNoted,
    EpochSettled,
    Posting,
    RewardsPaid,
    ScoredNode,
    SupplyMinted,
)
from services.kernel.errors import Refusal
from services.treasury import errors
from services.treasury.commands import BurnSupply, NoteEpochScores, SettleEpoch
from services.treasury.errors import (
    BookNotDefined,
    EpochAlreadySettled,
    ScoresAlreadyNoted,
    ScoresIncomplete,
    UnknownFund,
)
from tests.spec import Spec
from tests.treasury_given import (
    ADA,
    BEN,
    BOOK,
    CAT,
    RATE_CAP,
    emits,
    founded,
    node,
    only,
    scored,
    settle,
    sound_service,
    with_fund,
)

DEE = "member/" + "d" * 32


def test_an_epoch_computed_by_hand() -> None:
    # Pool 1,000,000; late reserve 2 % = 20,000; payable 980,000 = 3 x 326,666 + 2: the first two nodes get one more.
    spec = founded()
    facts = settle(spec, 7, scored((3, CAT, 5), (1, ADA, 5), (2, BEN, 5)))
    assert facts == [
        AccountOpened("epoch/7", "community", "escrow"),
        AccountOpened("late-reserve/7", "community", "escrow"),
        SupplyMinted("epoch/7", "1000000", "emission", 7),
        EpochPoolFunded(7, (), "1000000"),
        RewardsPaid(
            7,
            0,
            (node(1), node(2), node(3)),
            (
                Posting("epoch/7", ADA, "326667"),
                Posting("epoch/7", BEN, "326667"),
                Posting("epoch/7", CAT, "326666"),
            ),
        ),
        EpochSettled(
            7,
            "closed-7",
            "1000000",
            "980000",
            "20000",
            "0",
            "980000",
            "15",
            "ungated",
            (Posting("epoch/7", "late-reserve/7", "20000"),),
        ),
        AccountClosed("epoch/7"),
    ]
    assert spec.state.balances["epoch/7"] == 0
    assert spec.state.supply.minted == 1_000_000


def test_all_facts_of_a_settlement_are_of_the_book() -> None:
    spec = founded()
    spec.when(NoteEpochScores(0, 0, "page", scored((1, ADA, 5))))
    assert {emit.stream for emit in spec.decide(SettleEpoch(0, 1, "5", None, "closed", "anchored"))} == {BOOK}


def test_the_gates_answer_is_recorded() -> None:
    spec = founded()
    spec.when(NoteEpochScores(0, 0, "page", scored((1, ADA, 5))))
    (settled,) = only(spec.when(SettleEpoch(0, 1, "5", None, "closed", "anchored")), EpochSettled)
    assert settled.gate == "anchored"


def test_pay_follows_the_score() -> None:
    spec = founded()
    settle(spec, 0, scored((1, ADA, 3), (2, BEN, 1)))
    assert (spec.state.balances[ADA], spec.state.balances[BEN]) == (735_000, 245_000)


def test_a_score_of_zero_earns_nothing() -> None:
    spec = founded()
    (page,) = only(settle(spec, 0, scored((1, ADA, 3), (2, BEN, 0))), RewardsPaid)
    assert page.nodes == (node(1),)


def test_a_part_that_comes_to_zero_is_not_posted() -> None:
    spec = founded(emission=2, late_ppm=0)
    (page,) = only(settle(spec, 0, scored((1, ADA, 1), (2, BEN, 10), (3, CAT, 10))), RewardsPaid)
    assert page.nodes == (node(2), node(3))


def test_two_nodes_of_one_owner_are_two_postings() -> None:
    spec = founded()
    (page,) = only(settle(spec, 0, scored((1, ADA, 1), (2, ADA, 1))), RewardsPaid)
    assert page.postings == (Posting("epoch/0", ADA, "490000"), Posting("epoch/0", ADA, "490000"))


def test_the_rate_cap_bounds_what_is_payable_and_the_rest_is_kept() -> None:
    spec = founded(rate_cap=1_000_000)
    (settled,) = only(settle(spec, 0, scored((1, ADA, 300_000), (2, BEN, 200_001))), EpochSettled)
    assert (settled.paid, settled.late_reserve, settled.kept) == ("500001", "20000", "479999")
    assert spec.state.balances["pool/emission-reserve"] == 479_999
    assert (settled.rate_numerator, settled.rate_denominator) == ("500001", "500001")


def test_what_is_kept_never_enlarges_a_later_pool() -> None:
    spec = founded(rate_cap=0)
    pools = [only(settle(spec, epoch, scored((1, ADA, 5))), EpochSettled)[0].pool for epoch in range(3)]
    assert pools == ["1000000"] * 3


def test_an_epoch_without_usage_pays_nothing_and_sets_the_late_reserve_aside() -> None:
    spec = founded()
    facts = settle(spec, 0, ())
    (settled,) = only(facts, EpochSettled)
    assert only(facts, RewardsPaid) == []
    assert (settled.pool, settled.paid, settled.late_reserve, settled.kept) == ("1000000", "0", "20000", "980000")
    assert (settled.rate_numerator, settled.rate_denominator) == (str(RATE_CAP), "1000000")


def test_the_mint_is_bounded_by_the_cap() -> None:
    spec = founded(cap=2_500_000)
    pools = [only(settle(spec, epoch, scored((1, ADA, 5))), EpochSettled)[0].pool for epoch in range(4)]
    assert pools == ["1000000", "1000000", "500000", "0"]
    assert spec.state.supply.minted == 2_500_000


def test_a_pool_of_nothing_is_settled_without_postings() -> None:
    spec = founded(emission=0)
    facts = settle(spec, 0, scored((1, ADA, 5)))
    assert only(facts, SupplyMinted) == only(facts, RewardsPaid) == []
    (settled,) = only(facts, EpochSettled)
    assert (settled.pool, settled.paid, settled.postings) == ("0", "0", ())


def test_what_was_burned_may_be_minted_again() -> None:
    spec = founded(cap=1_000_000, ada=1_000_000)
    spec.when(BurnSupply(ADA, "300000", "a.b.c"), ADA)
    (settled,) = only(settle(spec, 0, scored((1, ADA, 5))), EpochSettled)
    assert settled.pool == "300000"


def test_a_backfills_epoch_is_paid_from_its_fund_until_it_is_empty() -> None:
    spec = with_fund(founded(), "openb", 2_500, 1_000)
    facts = settle(spec, 0, scored((1, ADA, 5)), "openb")
    assert only(facts, SupplyMinted) == []
    assert only(facts, EpochPoolFunded) == [EpochPoolFunded(0, (Posting("fund/openb", "epoch/0", "1000"),), "1000")]
    pools = [only(settle(spec, epoch, scored((1, ADA, 5)), "openb"), EpochSettled)[0].pool for epoch in (1, 2, 3)]
    assert pools == ["1000", "500", "0"]
    assert spec.state.supply.minted == 2_500
    assert spec.state.balances["fund/openb"] == 0


def test_what_a_backfills_epoch_keeps_goes_to_the_emission_reserve() -> None:
    spec = with_fund(founded(rate_cap=0), "openb", 2_500, 1_000)
    settle(spec, 0, scored((1, ADA, 5)), "openb")
    assert spec.state.balances["pool/emission-reserve"] == 980


def test_a_backfill_without_a_fund_is_refused() -> None:
    with pytest.raises(UnknownFund):
        settle(founded(), 0, scored((1, ADA, 5)), "nowhere")


def test_an_owner_without_an_account_gets_one_with_the_pay() -> None:
    spec = founded()
    facts = settle(spec, 0, scored((1, DEE, 1), (2, DEE, 1)))
    assert [fact.account for fact in only(facts, AccountOpened)] == ["epoch/0", "late-reserve/0", DEE]
    assert spec.state.balances[DEE] == 980_000


def test_the_payouts_of_1523_nodes_come_in_16_pages_that_fit() -> None:
    spec = founded(emission=1_000_000_007)
    owners = [f"member/{number % 97:032x}" for number in range(1_523)]
    scores = scored(*((number, owners[number], 1 + number % 13) for number in range(1_523)))
    facts = settle(spec, 0, scores)
    pages = only(facts, RewardsPaid)
    assert [len(page.postings) for page in pages] == [100] * 15 + [23]
    assert [page.page for page in pages] == list(range(16))
    (settled,) = only(facts, EpochSettled)
    paid = sum(int(posting.amount) for page in pages for posting in page.postings)
    assert paid == int(settled.paid)
    assert paid + int(settled.late_reserve) + int(settled.kept) == 1_000_000_007


def test_the_order_of_nodes_and_pages_does_not_matter() -> None:
    scores = scored(*((number, ADA if number % 2 else BEN, number * number % 7) for number in range(50)))
    one, two = founded(), founded()
    assert settle(one, 0, scores, page=20) == settle(two, 0, scores[::-1], page=25)


def test_noted_pages_are_dropped_when_the_epoch_is_settled() -> None:
    spec = founded()
    spec.when(NoteEpochScores(1, 0, "page", scored((9, BEN, 1))))
    settle(spec, 0, scored((1, ADA, 5)))
    assert set(spec.state.epochs.noted) == {(1, "gpu")}


def test_a_page_is_recorded_with_the_fact_it_repeats() -> None:
    (fact,) = founded().when(NoteEpochScores(3, 1, "fact-id", scored((1, ADA, 5))))
    assert fact == EpochScoresNoted(3, 1, "fact-id", scored((1, ADA, 5)))


def test_a_page_is_noted_once() -> None:
    spec = founded()
    spec.when(NoteEpochScores(0, 0, "page", scored((1, ADA, 5))))
    with pytest.raises(ScoresAlreadyNoted):
        spec.when(NoteEpochScores(0, 0, "other", scored((2, ADA, 5))))


def test_no_page_is_noted_of_a_settled_epoch() -> None:
    spec = founded()
    settle(spec, 0, scored((1, ADA, 5)))
    with pytest.raises(ScoresAlreadyNoted):
        spec.when(NoteEpochScores(0, 5, "page", scored((2, ADA, 5))))


@pytest.mark.parametrize("score", ["-1", "1.5", "", "01", "x"])
def test_a_score_that_is_no_amount_is_refused(score: str) -> None:
    with pytest.raises(ScoresIncomplete):
        founded().when(NoteEpochScores(0, 0, "page", (ScoredNode(node(1), ADA, score),)))


def test_an_epoch_is_settled_once() -> None:
    spec = founded()
    settle(spec, 0, scored((1, ADA, 5)))
    with pytest.raises(EpochAlreadySettled) as refusal:
        spec.when(SettleEpoch(0, 0, "0", None, "closed", "ungated"))
    assert refusal.value.fields == {"epoch": 0}


@pytest.mark.parametrize(("pages", "total"), [(2, "10"), (0, "0"), (1, "9"), (1, "11"), (1, "010")])
def test_pages_that_are_not_those_of_the_closing_fact_pay_nothing(pages: int, total: str) -> None:
    spec = founded()
    spec.when(NoteEpochScores(0, 0, "page", scored((1, ADA, 5), (2, BEN, 5))))
    before = spec.state
    with pytest.raises(ScoresIncomplete):
        spec.when(SettleEpoch(0, pages, total, None, "closed", "ungated"))
    assert spec.state == before


def test_a_node_in_two_pages_pays_nothing() -> None:
    spec = founded()
    spec.when(NoteEpochScores(0, 0, "page", scored((1, ADA, 5))))
    spec.when(NoteEpochScores(0, 1, "page", scored((1, ADA, 5))))
    with pytest.raises(ScoresIncomplete):
        spec.when(SettleEpoch(0, 2, "10", None, "closed", "ungated"))


def test_before_genesis_nothing_is_settled_or_noted() -> None:
    spec = Spec(sound_service())
    for command in (SettleEpoch(0, 0, "0", None, "closed", "ungated"), NoteEpochScores(0, 0, "page", ())):
        with pytest.raises(BookNotDefined):
            spec.when(command)


def test_every_refusal_of_the_treasury_is_a_refusal_with_a_name_of_its_own() -> None:
    kinds = [
        kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, Refusal) and kind is not Refusal and not name.startswith("_")
    ]
    assert len({kind.slug for kind in kinds}) == len(kinds)
    assert all(kind.slug != Refusal.slug for kind in kinds)


def test_a_settlement_after_an_account_was_opened_by_hand_goes_on() -> None:
    spec = founded().given(*emits(AccountOpened(DEE, DEE, "member")))
    facts = settle(spec, 0, scored((1, DEE, 1)))
    assert DEE not in {fact.account for fact in only(facts, AccountOpened)}
