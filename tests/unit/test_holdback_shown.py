"""What is held back is shown: in the balances, with the score it was earned by, and in the doctor's recount."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from events.catalog import Recorded
from events.envelope import Fact
from infra.checks.settled import SettledEpochs
from projections import balances, scores
from projections.view import View
from services.treasury.commands import ForfeitHoldback, ReleaseHoldback
from tests.spec import NOW_US, Spec
from tests.treasury_given import ADA, BEN, CAT, founded, late_pages, node, scored, settle


def played() -> tuple[Spec, list[Fact]]:
    """Three nodes earn; one's holdback is released, one's forfeited, and one's is late and waits."""
    spec = founded(holdback_ppm=100_000, emission=2_000_000, rate_cap=1_000_000)
    facts = list(settle(spec, 0, scored((1, ADA, 600_000), (2, BEN, 300_000))))
    facts += spec.when(ReleaseHoldback(0, "gpu", (node(1),), "released", "ungated"))
    facts += spec.when(ForfeitHoldback(0, "gpu", (node(2),), "forfeited"))
    (late,) = late_pages(0, 1, scored((2, BEN, 1_000), (3, CAT, 5_000)))
    return spec, [*facts, *spec.when(late)]


def rows(view: View, facts: Sequence[Fact], table: str) -> dict[Any, Any]:
    """Fold facts into a table of a view."""
    found: dict[Any, Any] = {}
    for position, fact in enumerate(facts, 1):
        handler = view.handlers.get(type(fact))
        recorded = Recorded("treasury", position, "book/COMPUTE", position, NOW_US, f"fact-{position}", None, fact)
        for of, key, update, arguments in handler(fact, recorded) if handler else ():
            if of.name == table:
                update(found.setdefault(key, of.new_row(key)), *arguments)
    return found


def test_the_balances_show_what_waits_and_what_was_forfeited() -> None:
    spec, facts = played()
    shown = rows(balances.VIEW, facts, "accounts")
    assert {name: row.balance for name, row in shown.items() if name != "pool/emission-reserve"} == {
        name: amount for name, amount in spec.state.balances.items() if name != "pool/emission-reserve"
    }
    assert (shown["holdback/0"].balance, shown["treasury/forfeits"].balance) == (500, 30_100)


def test_a_score_shows_what_of_its_reward_is_held_released_and_forfeited() -> None:
    _, facts = played()
    shown = rows(scores.VIEW, facts, "scores")
    parts = {key[1]: (row.reward, row.late_reward, row.held, row.released, row.forfeited) for key, row in shown.items()}
    assert parts == {
        node(1): (600_000, 0, 0, 60_000, 0),
        node(2): (270_000, 900, 0, 0, 30_100),
        node(3): (0, 4_500, 500, 0, 0),
    }


def test_the_recount_sees_more_released_than_was_held() -> None:
    _, facts = played()
    recount = SettledEpochs()
    for fact in facts:
        recount.look(fact)
    assert recount.check().verdict == "ok"
    for fact in facts:
        if type(fact).__name__ == "HoldbackPaid":
            recount.look(fact)
    found = recount.check()
    assert (found.verdict, "more than was held back" in found.detail) == ("broken", True)
