"""Late usage is paid from its epoch's late reserve; what is left of the reserve returns after its days."""

from __future__ import annotations

from events.envelope import Fact
from events.treasury import AccountClosed, LateReserveReleased, LateRewardsPaid, Posting
from services.kernel.decider import Context, Decision, Emit
from services.treasury import names
from services.treasury.commands import PayLateUsage, ReleaseLateReserve
from services.treasury.decide.reading import the_asset
from services.treasury.decide.scores import score_of
from services.treasury.decide.settlement import Payout, open_owners
from services.treasury.decide.transactions import MAX_POSTINGS
from services.treasury.errors import EpochNotSettled, ReserveAlreadyReleased, ReserveNotDue
from services.treasury.shares import late_pay
from services.treasury.state import Book, Settlement


def pay_late_usage(command: PayLateUsage, state: Book, _context: Context) -> Decision:
    """Pay late usage at its own epoch's final rate; nothing once the reserve was released: it is at 0 then.

    Raises BookNotDefined, EpochNotSettled, ScoresIncomplete.
    """
    stream = names.book(the_asset(state).symbol)
    settlement = _settlement(command.epoch, state)
    source = names.late_reserve(command.epoch)
    reserve = state.balances[source]
    rate = settlement.rate_numerator, settlement.rate_denominator
    parts = late_pay([score_of(node) for node in command.scores], rate, reserve)
    payouts = [Payout(node.node, node.owner, part) for node, part in zip(command.scores, parts, strict=True) if part]
    facts: list[Fact] = list(open_owners((payout.account for payout in payouts), state))
    for start in range(0, len(payouts), MAX_POSTINGS):
        page = payouts[start : start + MAX_POSTINGS]
        postings = tuple(Posting(source, payout.account, str(payout.amount)) for payout in page)
        nodes = tuple(payout.node for payout in page)
        facts.append(LateRewardsPaid(command.epoch, command.late_fact, nodes, postings, command.gate))
    answer = {"epoch": command.epoch, "paid": str(sum(parts))}
    return Decision([Emit(stream, fact) for fact in facts], answer)


def release_late_reserve(command: ReleaseLateReserve, state: Book, context: Context) -> Decision:
    """Return what is left of a late reserve to the emission reserve and close its account.

    Raises BookNotDefined, EpochNotSettled, ReserveAlreadyReleased, ReserveNotDue.
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
