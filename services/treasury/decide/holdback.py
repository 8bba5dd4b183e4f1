"""Ending what is held back, as metering's facts say: it goes to its owners, or to the community."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from immutables import Map

from events.envelope import Fact
from events.registry_terms import KINDS, DeviceKind
from events.treasury import AccountClosed, AccountOpened, HoldbackForfeitBooked, HoldbackPaid, NodeReward, Posting
from services.kernel.decider import Context, Decision, Emit
from services.treasury import names
from services.treasury.commands import ForfeitHoldback, ReleaseHoldback
from services.treasury.decide.payouts import Opened, chunks
from services.treasury.decide.reading import the_asset, the_settlement
from services.treasury.decide.transactions import MAX_POSTINGS
from services.treasury.holdback import Hold, Holds, is_open, with_end
from services.treasury.state import Book


def release_holdback(command: ReleaseHoldback, state: Book, _context: Context) -> Decision:
    """Pay what is held to its owners; what has ended before stays ended. Raises BookNotDefined, EpochNotSettled."""
    nodes = _open_nodes(command, state)
    source, facts, paid = names.holdback(command.epoch), list[Fact](), 0
    for part in chunks(nodes, MAX_POSTINGS):
        rewards = _waiting(command, part, state)
        postings = tuple(Posting(source, one.owner, one.amount) for one in rewards)
        named = command.epoch, command.kind, command.released_fact
        facts.append(HoldbackPaid(*named, tuple(part), rewards, postings, command.gate))
        paid += sum(int(one.amount) for one in rewards)
    return _decision(command, [*facts, *_closed(command, nodes, state, "released")], state, paid)


def forfeit_holdback(command: ForfeitHoldback, state: Book, _context: Context) -> Decision:
    """Give what is held to the community; what has ended before stays. Raises BookNotDefined, EpochNotSettled."""
    nodes = _open_nodes(command, state)
    source, facts, lost = names.holdback(command.epoch), list[Fact](), 0
    for part in chunks(nodes, MAX_POSTINGS):
        rewards = _waiting(command, part, state)
        amount = sum(int(one.amount) for one in rewards)
        postings = (Posting(source, names.FORFEITS, str(amount)),) if rewards else ()
        named = command.epoch, command.kind, command.forfeited_fact
        facts.append(HoldbackForfeitBooked(*named, tuple(part), rewards, postings))
        lost += amount
    openings = Opened(state.accounts).open(AccountOpened(names.FORFEITS, names.COMMUNITY, "treasury")) if lost else ()
    return _decision(command, [*openings, *facts, *_closed(command, nodes, state, "forfeited")], state, lost)


def _open_nodes(command: ReleaseHoldback | ForfeitHoldback, state: Book) -> Sequence[str]:
    """Return the nodes whose holdback ends now: open ones, and those that late pay may still come to."""
    the_asset(state)
    settlement = the_settlement(state, command.epoch, command.kind)
    holds = state.epochs.held.get(command.epoch, Map())
    unknown = None if settlement.released or not settlement.holdback_ppm else Hold()
    found = {node: holds.get((command.kind, node), unknown) for node in command.nodes}
    return [node for node, hold in found.items() if hold is not None and not hold.ended]


def _waiting(command: ReleaseHoldback | ForfeitHoldback, nodes: Sequence[str], state: Book) -> tuple[NodeReward, ...]:
    holds = state.epochs.held.get(command.epoch, Map())
    found = ((node, holds.get((command.kind, node))) for node in nodes)
    return tuple(NodeReward(node, hold.owner, str(hold.waiting)) for node, hold in found if hold and hold.waiting)


def _closed(
    command: ReleaseHoldback | ForfeitHoldback,
    nodes: Sequence[str],
    state: Book,
    ended: Literal["released", "forfeited"],
) -> Iterator[Fact]:
    holds = with_end(state.epochs.held.get(command.epoch, Map()), command.kind, nodes, ended, keep=False)
    yield from closed_holdback(state, command.epoch, holds)


def closed_holdback(state: Book, epoch: int, holds: Holds, released: DeviceKind | None = None) -> Iterator[Fact]:
    """Yield the closing of an epoch's holdback account once all has ended and no late pay can come.

    `holds` are the epoch's after this decision; `released` is the kind whose late reserve it releases.
    """
    account = state.accounts.get(names.holdback(epoch))
    if account is None or account.closed:
        return
    settled = {kind: state.epochs.settled.get((epoch, kind)) for kind in KINDS}
    if all(one is None or one.released or kind == released for kind, one in settled.items()) and not is_open(holds):
        yield AccountClosed(names.holdback(epoch))


def _decision(command: ReleaseHoldback | ForfeitHoldback, facts: Sequence[Fact], state: Book, amount: int) -> Decision:
    stream = names.book(the_asset(state).symbol)
    return Decision([Emit(stream, fact) for fact in facts], {"epoch": command.epoch, "amount": str(amount)})
