"""Closing an epoch: pages of scores, then the closing fact with their root, in one commit."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import UNSET

from events.envelope import encode_data
from events.metering import (
    ConsumerReadingsWithheld,
    EpochClosed,
    EpochPaged,
    EpochTotals,
    LateUsageScored,
    NodeScore,
    OverCapacityDetected,
    ReliabilityChanged,
)
from events.registry_terms import KINDS, DeviceKind, WorkClass
from services.kernel.decider import Context, Decision, Emit
from services.metering.commands import CloseEpoch
from services.metering.deadlines import backfill_of, not_over
from services.metering.energy import with_energy
from services.metering.errors import EpochNotOver, EpochOutOfOrder, NotAdopted
from services.metering.holdback import held_again
from services.metering.kinds import scored
from services.metering.late import late_scores
from services.metering.merkle import merkle_root
from services.metering.performance import table_in_force
from services.metering.scoring import Judged, NodeTally, factors_at, judge, node_score, standing_of, tally
from services.metering.state import Metering

PAGE_NODES: Final = 200
PAGE_BYTES: Final = 64_000
"""Room for a page's nodes in a record of 65,535 bytes; the rest is the envelope's."""

MOST_OVER: Final = 100
"""Intervals over capacity that are told of a device: one commit holds an epoch. All of them count nothing."""


def close_epoch(command: CloseEpoch, state: Metering, context: Context) -> Decision:
    """Close the next epoch of a closed backfill, or the next live one once its time has come."""
    if state.rules is None:
        raise NotAdopted("genesis comes first")
    epoch = command.epoch
    backfill = backfill_of(state, epoch)
    expected = state.next_live if backfill is None else backfill.next_epoch
    if epoch != expected:
        raise EpochOutOfOrder("epochs close in order, each once", epoch=epoch, expected=expected)
    reason = not_over(state, epoch, context.time_ms)
    if reason is not None:
        raise EpochNotOver(reason, epoch=epoch)
    tallied = {kind: tally(state, epoch, kind) for kind in scored(state)}
    owned = [(device, node.owner) for nodes in tallied.values() for node in nodes.values() for device in node.devices]
    judged = judge(state, epoch, owned)
    scores = {kind: _scores(state, epoch, nodes, judged) for kind, nodes in tallied.items()}
    shown = with_energy(state, epoch, scores)
    pages = _epoch_pages(epoch, shown)
    closed = EpochClosed(
        epoch,
        state.grid.start(epoch),
        state.grid.end(epoch),
        str(context.position),
        len(pages),
        merkle_root([bytes(encode_data(page)) for page in pages]).hex(),
        {kind: _totals(shown[kind]) for kind in KINDS if kind in scores or kind == "gpu"},
        _table_hashes(state, epoch),
        backfill.backfill if backfill else None,
    )
    stream = f"epoch/{epoch}"
    facts = [
        *(Emit(stream, fact) for nodes in tallied.values() for fact in _over_capacity(epoch, nodes)),
        *(Emit(stream, fact) for fact in _reliability(state, epoch, dict(owned), judged)),
        *(Emit(stream, fact) for nodes in tallied.values() for fact in _withheld(epoch, nodes) if backfill is None),
        *_late(state, epoch, live=backfill is None),
        *(Emit(stream, page) for page in pages),
        Emit(stream, closed),
    ]
    return Decision(facts, {"epoch": epoch, "pages": len(pages), "root": closed.root})


def _scores(state: Metering, epoch: int, tallied: Mapping[str, NodeTally], judged: Judged) -> Sequence[NodeScore]:
    factors = factors_at(state, epoch, tallied, judged)
    return [node_score(node, tallied[node], factors, state.grid.length_ms) for node in tallied]


def _epoch_pages(epoch: int, scores: Mapping[DeviceKind, Sequence[NodeScore]]) -> Sequence[EpochPaged]:
    """Return the pages of all kinds, numbered through; a page of GPUs does not name its kind."""
    pages = [(kind, nodes) for kind in KINDS for nodes in _pages(scores.get(kind, ()))]
    return [
        EpochPaged(epoch, page, nodes, UNSET if kind == "gpu" else kind) for page, (kind, nodes) in enumerate(pages)
    ]


def _pages(scores: Sequence[NodeScore], twice: Collection[str] = ()) -> Iterator[tuple[NodeScore, ...]]:
    """Yield at most 200 nodes at a time, fewer where they, and those named twice, would not fit in one record."""
    page: list[NodeScore] = []
    size = 0
    for score in scores:
        length = len(msgspec.json.encode(score)) + 1 + (len(score.node) + 3) * (score.node in twice)
        if page and (len(page) == PAGE_NODES or size + length > PAGE_BYTES):
            yield tuple(page)
            page, size = [], 0
        page.append(score)
        size += length
    if page:
        yield tuple(page)


def _totals(scores: Sequence[NodeScore]) -> EpochTotals:
    return EpochTotals(
        str(sum(int(score.micro_rgpu_hours) for score in scores)),
        str(sum(int(score.allocated_milli_ms) for score in scores)),
        str(sum(int(score.utilised_milli_ms) for score in scores)),
        str(sum(int(score.offered_milli_ms) for score in scores)),
        len(scores),
    )


def _table_hashes(state: Metering, epoch: int) -> dict[WorkClass, str]:
    found = {kind: table_in_force(tables, state.grid.start(epoch)) for kind, tables in sorted(state.tables.items())}
    return {kind: table.sha256 for kind, table in found.items() if table is not None}


def _over_capacity(epoch: int, tallied: Mapping[str, NodeTally]) -> Iterable[OverCapacityDetected]:
    for node_id, node in tallied.items():
        for device_id, device in node.devices.items():
            for start, end, level in device.over[:MOST_OVER]:
                yield OverCapacityDetected(node_id, device_id, epoch, start, end, level)


def _withheld(epoch: int, tallied: Mapping[str, NodeTally]) -> Iterable[ConsumerReadingsWithheld]:
    for node_id, node in tallied.items():
        for device_id, device in node.devices.items():
            for lease, lost in device.withheld:
                yield ConsumerReadingsWithheld(epoch, node_id, device_id, lease, str(lost))


def _reliability(
    state: Metering, epoch: int, owner_of: Mapping[str, str], judged: Judged
) -> Iterable[ReliabilityChanged]:
    """Yield every change since the subject was last needed, owners first; a drop names what bounds it now."""
    subjects = [*sorted(judged.owners), *sorted(judged.devices)]
    for subject in subjects:
        owner = owner_of.get(subject)
        after, bound = (judged.owners if owner is None else judged.devices)[subject]
        before = standing_of(state, subject, owner).ppm
        if after != before:
            cause = f"{'lower' if after < before else 'higher'} bound of {bound}"
            yield ReliabilityChanged(subject, epoch, before, after, cause, owner)


def _late(state: Metering, epoch: int, *, live: bool) -> Iterable[Emit]:
    """Yield what closed live epochs count beyond their close; only a live close scores them."""
    if not live:
        return
    for late in sorted(state.touched):
        for kind in scored(state):
            scores = late_scores(state, late, epoch, kind)
            again = frozenset(held_again(state.holdback, late, kind, scores))
            yield from (Emit(f"epoch/{late}", fact) for fact in _late_pages(late, epoch, kind, scores, again))


def _late_pages(
    epoch: int, scored_in: int, kind: DeviceKind, scores: Sequence[NodeScore], again: Collection[str] = ()
) -> Iterator[LateUsageScored]:
    """Yield the pages of late scores; each tells how many there are and what all of them sum to."""
    total = str(sum(int(score.micro_rgpu_hours) for score in scores))
    pages = list(_pages(scores, again))
    told = UNSET if kind == "gpu" else kind
    for page, nodes in enumerate(pages):
        named = tuple(score.node for score in nodes if score.node in again) or UNSET
        yield LateUsageScored(epoch, scored_in, page, len(pages), total, nodes, told, named)
