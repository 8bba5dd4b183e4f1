"""Late usage is paid from its epoch's late reserve; what is left of the reserve returns after its days."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from immutables import Map

from events.envelope import Fact
from events.treasury import (
    AccountClosed,
    LateReserveReleased,
    LateRewardsPaid,
    LateScoresNoted,
    Posting,
    ScoredNode,
)
from services.kernel.decider import Context, Decision, Emit
from services.treasury import holdback, names
from services.treasury.commands import PayLateUsage, ReleaseLateReserve
from services.treasury.decide.holdback import closed_holdback
from services.treasury.decide.payouts import Opened, Payout, openings, pages, payouts_of
from services.treasury.decide.reading import the_asset, the_settlement
from services.treasury.decide.scores import complete_scores, count_pages, score_of
from services.treasury.decide.settlement import told
from services.treasury.errors import ReserveAlreadyReleased, ReserveNotDue, ScoresAlreadyNoted
from services.treasury.late_basis import LateBasis, ScorePage, with_page
from services.treasury.shares import late_pay
from services.treasury.state import Book, Settlement


def pay_late_usage(command: PayLateUsage, state: Book, _context: Context) -> Decision:
    """Note a page of late scores; with the last one pay them all, nothing once the reserve was released.

    Raises BookNotDefined, EpochNotSettled, ScoresAlreadyNoted, ScoresIncomplete.
    """
    stream = names.book(the_asset(state).symbol)
    epoch, kind = command.epoch, command.kind
    settlement = the_settlement(state, epoch, kind)
    if settlement.late is None:
        return Decision((), {"epoch": epoch, "paid": "0"})
    fact = _noted(command, settlement.late)
    page = ScorePage(fact.page_fact, fact.scores)
    basis = with_page(settlement.late, fact.scored_in, fact.page, fact.pages, page)
    payouts: list[Payout] = []
    if command.scored_in in basis.counted:
        noted = settlement.late.noted.get(command.scored_in, Map()).set(command.page, page)
        count_pages(epoch, len(noted), command.pages)
        scores = complete_scores(epoch, noted, command.total_micro_rgpu_hours)
        earned = _earned(scores, settlement, basis, state.balances[names.late_reserve(epoch, kind)])
        holds = holdback.held_again(state.epochs.held.get(epoch, Map()), kind, command.held_again)
        payouts = payouts_of(earned, holds, kind, settlement.holdback_ppm)
    facts: list[Fact] = [fact, *openings(payouts, Opened(state.accounts), epoch, settlement.holdback_ppm)]
    facts += _paid(command, payouts, settlement.holdback_ppm)
    answer = {"epoch": epoch, "paid": str(sum(payout.amount for payout in payouts))}
    return Decision([Emit(stream, fact) for fact in facts], answer)


def _noted(command: PayLateUsage, basis: LateBasis) -> LateScoresNoted:
    """Return the fact of a page; raises ScoresAlreadyNoted, and ScoresIncomplete where a score does not parse."""
    if command.scored_in in basis.counted or command.page in basis.noted.get(command.scored_in, ()):
        raise ScoresAlreadyNoted(
            f"late page {command.page} of epoch {command.epoch}, scored in {command.scored_in}, was noted",
            epoch=command.epoch,
            scored_in=command.scored_in,
            page=command.page,
        )
    for node in command.scores:
        score_of(node)
    named = command.page, command.pages, command.late_fact, command.scores
    again = command.held_again or msgspec.UNSET
    return LateScoresNoted(command.epoch, command.scored_in, *named, told(command.kind), again)


def _earned(
    scores: Sequence[tuple[ScoredNode, int]], settlement: Settlement, basis: LateBasis, reserve: int
) -> list[tuple[str, str, int]]:
    """Divide a late reserve: the final rate at most, and for each owner what being in time would have paid."""
    rate = settlement.rate_numerator, settlement.rate_denominator
    rooms = {node.owner: basis.room(node.owner) for node, _ in scores}
    parts = late_pay([(node.owner, score) for node, score in scores], rate, rooms, reserve)
    return [(node.node, node.owner, part) for (node, _), part in zip(scores, parts, strict=True)]


def _paid(command: PayLateUsage, payouts: Sequence[Payout], holdback_ppm: int) -> Iterator[LateRewardsPaid]:
    epoch, kind = command.epoch, command.kind
    for page in pages(payouts, names.late_reserve(epoch, kind), epoch, holdback_ppm):
        held = page.held if holdback_ppm else msgspec.UNSET
        rest = told(kind), held, page.forfeited or msgspec.UNSET
        yield LateRewardsPaid(epoch, command.late_fact, page.nodes, page.postings, command.gate, *rest)


def release_late_reserve(command: ReleaseLateReserve, state: Book, context: Context) -> Decision:
    """Return what is left of a late reserve to the emission reserve and close its account.

    Raises BookNotDefined, EpochNotSettled, ReserveAlreadyReleased, ReserveNotDue, ScoresAlreadyNoted.
    """
    stream, epoch, kind = names.book(the_asset(state).symbol), command.epoch, command.kind
    settlement = the_settlement(state, epoch, kind)
    if settlement.released:
        raise ReserveAlreadyReleased(epoch)
    if context.time_ms < settlement.release_ms:
        raise ReserveNotDue(epoch)
    source = names.late_reserve(epoch, kind)
    left = state.balances[source]
    postings = (Posting(source, names.EMISSION_RESERVE, str(left)),) if left else ()
    holds = state.epochs.held.get(epoch, Map())
    facts = (
        LateReserveReleased(epoch, postings, told(kind)),
        AccountClosed(source),
        *closed_holdback(state, epoch, holds, kind),
    )
    return Decision([Emit(stream, fact) for fact in facts], {"epoch": epoch, "released": str(left)})
