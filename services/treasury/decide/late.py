"""Late usage is paid from its epoch's late reserve; what is left of the reserve returns after its days."""

from __future__ import annotations

from collections.abc import Sequence

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
from services.treasury import names
from services.treasury.commands import PayLateUsage, ReleaseLateReserve
from services.treasury.decide.reading import the_asset
from services.treasury.decide.scores import complete_scores, score_of
from services.treasury.decide.settlement import Payout, open_owners
from services.treasury.decide.transactions import MAX_POSTINGS
from services.treasury.errors import EpochNotSettled, ReserveAlreadyReleased, ReserveNotDue, ScoresAlreadyNoted
from services.treasury.late_basis import LateBasis, ScorePage, with_page
from services.treasury.shares import late_pay
from services.treasury.state import Book, Settlement


def pay_late_usage(command: PayLateUsage, state: Book, _context: Context) -> Decision:
    """Note a page of late scores; with the last one pay them all, nothing once the reserve was released.

    Raises BookNotDefined, EpochNotSettled, ScoresAlreadyNoted, ScoresIncomplete.
    """
    stream = names.book(the_asset(state).symbol)
    settlement, epoch = _settlement(command.epoch, state), command.epoch
    if settlement.late is None:
        return Decision((), {"epoch": epoch, "paid": "0"})
    fact = _noted(command, settlement.late)
    page = ScorePage(fact.page_fact, fact.scores)
    basis = with_page(settlement.late, fact.scored_in, fact.page, fact.pages, page)
    payouts: list[Payout] = []
    if command.scored_in in basis.counted:
        pages = settlement.late.noted.get(command.scored_in, Map()).set(command.page, page)
        scores = complete_scores(epoch, pages, command.pages, command.total_micro_rgpu_hours)
        payouts = _payouts(scores, settlement, basis, state.balances[names.late_reserve(epoch)])
    facts: list[Fact] = [fact, *open_owners((payout.account for payout in payouts), state)]
    facts += [_paid(command, payouts[at : at + MAX_POSTINGS]) for at in range(0, len(payouts), MAX_POSTINGS)]
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
    return LateScoresNoted(command.epoch, command.scored_in, *named)


def _payouts(
    scores: Sequence[tuple[ScoredNode, int]], settlement: Settlement, basis: LateBasis, reserve: int
) -> list[Payout]:
    """Divide a late reserve: the final rate at most, and for each owner what being in time would have paid."""
    rate = settlement.rate_numerator, settlement.rate_denominator
    rooms = {node.owner: basis.room(node.owner) for node, _ in scores}
    parts = late_pay([(node.owner, score) for node, score in scores], rate, rooms, reserve)
    return [Payout(node.node, node.owner, part) for (node, _), part in zip(scores, parts, strict=True) if part]


def _paid(command: PayLateUsage, payouts: Sequence[Payout]) -> LateRewardsPaid:
    source = names.late_reserve(command.epoch)
    postings = tuple(Posting(source, payout.account, str(payout.amount)) for payout in payouts)
    nodes = tuple(payout.node for payout in payouts)
    return LateRewardsPaid(command.epoch, command.late_fact, nodes, postings, command.gate)


def release_late_reserve(command: ReleaseLateReserve, state: Book, context: Context) -> Decision:
    """Return what is left of a late reserve to the emission reserve and close its account.

    Raises BookNotDefined, EpochNotSettled, ReserveAlreadyReleased, ReserveNotDue, ScoresAlreadyNoted.
    """
    stream = names.book(the_asset(state).symbol)
    settlement = _settlement(command.epoch, state)
    if settlement.released:
        raise ReserveAlreadyReleased(command.epoch)
    if context.time_ms < settlement.release_ms:
        raise ReserveNotDue(command.epoch)
    source = names.late_reserve(command.epoch)
    left = state.balances[source]
    postings = (Posting(source, names.EMISSION_RESERVE, str(left)),) if left else ()
    facts = (LateReserveReleased(command.epoch, postings), AccountClosed(source))
    return Decision([Emit(stream, fact) for fact in facts], {"epoch": command.epoch, "released": str(left)})


def _settlement(epoch: int, state: Book) -> Settlement:
    settlement = state.epochs.settled.get(epoch)
    if settlement is None:
        raise EpochNotSettled(epoch)
    return settlement
