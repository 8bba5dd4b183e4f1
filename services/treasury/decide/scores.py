"""Taking note of an epoch's scores, page by page, until its closing fact says that they are all there."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from events.registry_terms import KINDS
from events.treasury import EpochScoresNoted, ScoredNode
from events.values import ValueRefused, parse_units
from services.kernel.decider import Context, Decision, Emit
from services.treasury.commands import NoteEpochScores
from services.treasury.decide.reading import the_stream
from services.treasury.errors import ScoresAlreadyNoted, ScoresIncomplete
from services.treasury.late_basis import ScorePage
from services.treasury.state import Book


def note_epoch_scores(command: NoteEpochScores, state: Book, context: Context) -> Decision:
    """Keep a page. Raises ScoresAlreadyNoted, and ScoresIncomplete for scores that do not parse or have no sub-pool."""
    stream, epoch, kind = the_stream(state, context), command.epoch, command.kind
    noted = any(command.page in state.epochs.noted.get((epoch, one), ()) for one in KINDS)
    if noted or (epoch, "gpu") in state.epochs.settled:
        raise ScoresAlreadyNoted(f"page {command.page} of epoch {epoch} was noted", epoch=epoch, page=command.page)
    if kind != "gpu" and (state.asset is None or all(pool.kind != kind for pool in state.asset.sub_pools)):
        raise ScoresIncomplete(f"there is no sub-pool of {kind}", epoch=epoch, page=command.page)
    for node in command.scores:
        score_of(node)
    told = msgspec.UNSET if kind == "gpu" else kind
    fact = EpochScoresNoted(epoch, command.page, command.page_fact, command.scores, told)
    return Decision((Emit(stream, fact),), {"epoch": epoch, "page": command.page})


def score_of(node: ScoredNode) -> int:
    """Return a node's score in micro-rGPUh; raises ScoresIncomplete when it is no amount or below 0."""
    try:
        score = parse_units(node.micro_rgpu_hours)
    except ValueRefused as error:
        raise ScoresIncomplete(f"the score of {node.node} does not parse: {error}", node=node.node) from error
    if score < 0:
        raise ScoresIncomplete(f"the score of {node.node} is below 0", node=node.node)
    return score


def count_pages(epoch: int, noted: int, named: int) -> None:
    """Raise ScoresIncomplete unless exactly the pages that metering names were noted."""
    if noted != named:
        raise ScoresIncomplete(
            f"epoch {epoch} has {named} pages, {noted} were noted", epoch=epoch, pages=named, noted=noted
        )


def complete_scores(epoch: int, pages: Mapping[int, ScorePage], micro_rgpu_hours: str) -> list[tuple[ScoredNode, int]]:
    """Return all nodes of a kind's noted pages with a score above 0, in node order.

    Raises ScoresIncomplete unless no node stands in them twice and their scores sum to the total that metering's fact
    states: nothing is paid on a part of an epoch.
    """
    nodes = sorted((node.node, node, score_of(node)) for page in pages.values() for node in page.scores)
    if len({name for name, _, _ in nodes}) != len(nodes):
        raise ScoresIncomplete(f"a node stands twice in the pages of epoch {epoch}", epoch=epoch)
    total = sum(score for _, _, score in nodes)
    if str(total) != micro_rgpu_hours:
        raise ScoresIncomplete(
            f"the scores of epoch {epoch} sum to {total}, metering says {micro_rgpu_hours}",
            epoch=epoch,
            noted=str(total),
            stated=micro_rgpu_hours,
        )
    return [(node, score) for _, node, score in nodes if score]
