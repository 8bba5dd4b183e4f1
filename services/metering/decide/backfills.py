"""Naming a backfill's nodes, and ending it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

from events.metering import BackfillClosed, BackfillNodesNamed, BackfillOpened
from events.values import is_reference
from services.kernel.decider import Context, Decision, Emit
from services.kernel.errors import InvalidField
from services.metering.commands import CloseBackfill, NameBackfillNodes
from services.metering.errors import (
    BackfillAlreadyOpen,
    BackfillNodesMismatch,
    BackfillNotOpen,
    PageOutOfOrder,
    UnknownBackfill,
)
from services.metering.state import Backfill, Metering

PAGE_NODES: Final = 1_000


def nodes_sha256(nodes: Sequence[str]) -> str:
    """Return the hex SHA-256 that names a backfill's nodes: sorted ids, a line feed after each."""
    return hashlib.sha256("".join(f"{node}\n" for node in sorted(nodes)).encode()).hexdigest()


def name_backfill_nodes(command: NameBackfillNodes, state: Metering, _context: Context) -> Decision:
    """Name a page of nodes; with the last one the backfill opens in the same commit. Page 0 begins anew."""
    known = _known(state, command.backfill)
    if known.opened:
        raise BackfillAlreadyOpen("the backfill's nodes are named already", backfill=known.backfill)
    _check_page(command, known)
    stream = f"backfill/{known.backfill}"
    facts = [Emit(stream, BackfillNodesNamed(known.backfill, command.page, command.nodes))]
    nodes = (*(known.nodes if command.page else ()), *command.nodes)
    if len(nodes) > known.node_count:
        raise BackfillNodesMismatch("more nodes than were allowed", expected=known.node_count, named=len(nodes))
    if len(nodes) == known.node_count:
        if nodes_sha256(nodes) != known.nodes_sha256:
            raise BackfillNodesMismatch("these are not the nodes that were allowed", expected=known.nodes_sha256)
        facts.append(Emit(stream, BackfillOpened(known.backfill)))
    answer = {"backfill": known.backfill, "named": len(nodes), "open": len(nodes) == known.node_count}
    return Decision(facts, answer)


def _check_page(command: NameBackfillNodes, known: Backfill) -> None:
    if not 1 <= len(command.nodes) <= PAGE_NODES or not all(is_reference(node, "node") for node in command.nodes):
        raise InvalidField(f"a page names 1 to {PAGE_NODES} node ids", field="nodes")
    if command.page not in {0, known.pages}:
        raise PageOutOfOrder("pages come in order", expected=known.pages)
    before = known.nodes[-1:] if command.page else ()
    if any(one >= other for one, other in pairwise((*before, *command.nodes))):
        raise PageOutOfOrder("node ids are sorted over all pages, each once", expected=known.pages)


def close_backfill(command: CloseBackfill, state: Metering, _context: Context) -> Decision:
    """End an open backfill; its epochs close from now on, in order."""
    known = _known(state, command.backfill)
    if not known.is_open:
        raise BackfillNotOpen("the backfill is not open", backfill=known.backfill)
    stream = f"backfill/{known.backfill}"
    answer = {"backfill": known.backfill, "first_epoch": known.first_epoch, "last_epoch": known.last_epoch}
    return Decision([Emit(stream, BackfillClosed(known.backfill))], answer)


def _known(state: Metering, backfill: str) -> Backfill:
    known = state.backfills.get(backfill)
    if known is None:
        raise UnknownBackfill("there is no such backfill", backfill=backfill)
    return known
