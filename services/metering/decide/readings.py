"""Recording signed batches: one batch, one fact; one bad reading never hides the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from msgspec import UNSET

from events.metering import ReadingsRecorded, RejectionCode
from events.registry_terms import DeviceKind
from events.values import DAY_MS, HOUR_MS
from services.kernel.decider import Context, Decision, Emit
from services.metering import steps
from services.metering.batches import Batch, Reading, form_code, read_batch, readings_of
from services.metering.closing import LATE_MS
from services.metering.commands import RecordReadings
from services.metering.energy import energy_rejected
from services.metering.errors import NoReadingStands, NotThisNode, UnknownNode
from services.metering.folding import Onto, fold_batch, recorded
from services.metering.kinds import is_metered, most_level
from services.metering.spools import answer_of, judge_part
from services.metering.state import LatePart, LeaseState, Metering

MAX_AGE_MS: Final = 35 * DAY_MS
MAX_AHEAD_MS: Final = 300_000


@dataclass(slots=True)
class _Judgement:
    """What became of a batch's readings, by index."""

    rejected: dict[RejectionCode, list[int]]
    late: list[int]

    @property
    def bad(self) -> frozenset[int]:
        """The indexes that never count."""
        return frozenset(index for indexes in self.rejected.values() for index in indexes)

    @property
    def left_out(self) -> frozenset[int]:
        """The indexes that count nothing unless their hour's spool is proved."""
        return self.bad.union(self.late)


@dataclass(frozen=True, slots=True)
class _Limits:
    """When readings of one device and lease are in order; `backfill` names the open one that lifts age limits."""

    start_ms: int
    end_ms: int
    now_ms: int
    backfill: str | None
    most: int

    def code(self, start: int, end: int, level: int) -> RejectionCode | None:
        """Return what is wrong with a reading, or None."""
        if level > self.most:
            return "level-out-of-range"
        if not self.start_ms <= start < end <= self.end_ms:
            return "outside-lease"
        if self.backfill is None and end > self.now_ms + MAX_AHEAD_MS:
            return "in-the-future"
        if self.backfill is None and start < self.now_ms - MAX_AGE_MS:
            return "too-old"
        return None

    def is_late(self, end: int) -> bool:
        """Tell whether a reading that ended then is recorded too late to count without a spool hash."""
        return self.backfill is None and end < self.now_ms - LATE_MS

    def quick(self) -> tuple[int, int]:
        """Return an interval inside which nothing can be wrong or late."""
        if self.backfill is not None:
            return self.start_ms, self.end_ms
        return max(self.start_ms, self.now_ms - LATE_MS), min(self.end_ms, self.now_ms + MAX_AHEAD_MS)


_Pairs = Mapping[tuple[int, int], _Limits | RejectionCode]


def record_readings(command: RecordReadings, state: Metering, context: Context) -> Decision:
    """Record a batch with what was wrong in it. Raises NoReadingStands when nothing in it can be recorded."""
    batch = read_batch(command.jws)
    if context.actor != batch.node:
        raise NotThisNode("a node signs its own readings", node=batch.node)
    node = context.directory.nodes.get(batch.node)
    if node is None or node.status == "retired":
        raise UnknownNode("the registry knows no such node", node=batch.node)
    pairs = _pairs(batch, state, context, {device.device: device.kind for device in node.fact.devices})
    judgement = _Judgement({}, [])
    if batch.late_of or batch.malformed or not _all_in_order(batch.runs, pairs):
        judgement = _judge(batch, readings_of(command.jws), pairs)
        if sum(map(len, judgement.rejected.values())) == batch.count:
            raise NoReadingStands("every reading of the batch is bad", rejected=_sorted(judgement.rejected))
    spool = None
    if batch.late_of is not None:
        spool = judge_part(state, batch.node, batch.late_of, LatePart(command.jws, judgement.bad))
    left_out = judgement.bad if spool is not None and spool.whole else judgement.left_out
    conflicts: Sequence[int] = ()
    if fold_batch(Onto(state, command.jws, left_out)).met:
        conflicts = _conflicts(batch, readings_of(command.jws), left_out, state)
    fact = ReadingsRecorded(
        batch.node,
        batch.batch,
        batch.number,
        batch.count,
        command.jws,
        _sorted(judgement.rejected) or None,
        tuple(judgement.late),
        tuple(conflicts),
        "provider",
        batch.late_of.spool_sha256 if batch.late_of else None,
        _backfill(pairs),
        spool or UNSET,
        energy_rejected(batch.energy, batch.node, state, context.time_ms) or UNSET,
    )
    return Decision([Emit(batch.node, fact)], _answer(fact))


def _answer(fact: ReadingsRecorded) -> Mapping[str, object]:
    return {
        "batch": fact.batch,
        "readings": fact.readings,
        "rejected": fact.rejected or {},
        "late": list(fact.late),
        "conflicts": list(fact.conflicts),
        **answer_of(fact.spool or None),
        **({"energy_rejected": list(fact.energy_rejected)} if fact.energy_rejected else {}),
    }


def _pairs(batch: Batch, state: Metering, context: Context, devices: Mapping[str, DeviceKind]) -> _Pairs:
    """Return what holds for each pair of device and lease that the batch's readings name."""
    found: dict[tuple[int, int], _Limits | RejectionCode] = {}
    for run in batch.runs:
        pair = (run[0], run[1])
        if pair not in found:
            device, lease = batch.devices[run[0]], state.leases.get(batch.leases[run[1]])
            found[pair] = _limits(batch.node, device, lease, state, context, devices)
    return found


def _limits(
    node: str,
    device: str,
    lease: LeaseState | None,
    state: Metering,
    context: Context,
    devices: Mapping[str, DeviceKind],
) -> _Limits | RejectionCode:
    if device not in devices:
        return "unknown-device"
    if lease is None:
        return "unknown-lease"
    if lease.fact.node != node or not _is_leased(device, devices[device], lease):
        return "device-not-leased"
    name = lease.fact.backfill
    backfill = state.backfills.get(name) if name is not None else None
    open_name = name if backfill is not None and backfill.is_open else None
    return _Limits(lease.fact.start_ms, lease.end_ms, context.time_ms, open_name, most_level(lease.fact))


def _is_leased(device: str, kind: DeviceKind, lease: LeaseState) -> bool:
    """Tell whether a lease is of a device; one that holds cores only names none and is of the node's processors."""
    return is_metered(lease, device) if lease.fact.devices else kind == "cpu"


def _all_in_order(runs: Sequence[Reading], pairs: _Pairs) -> bool:
    """Tell whether every run lies where nothing can be wrong or late: the common case, decided at once."""
    device = lease = first = last = most = -1
    for run in runs:
        if run[1] != lease or run[0] != device:
            device, lease = run[0], run[1]
            limits = pairs[device, lease]
            if not isinstance(limits, _Limits):
                return False
            first, last = limits.quick()
            most = limits.most
        if run[2] < first or run[3] > last or run[4] > most:
            return False
    return True


def _judge(batch: Batch, readings: Sequence[Reading], pairs: _Pairs) -> _Judgement:
    """Judge every reading on its own."""
    judgement = _Judgement({}, [])
    devices, leases = len(batch.devices), len(batch.leases)
    for index, reading in enumerate(readings):
        code = form_code(reading, devices, leases)
        limits: _Limits | None = None
        if code is None:
            found = pairs[reading[0], reading[1]]
            if isinstance(found, _Limits):
                limits = found
                code = found.code(reading[2], reading[3], reading[4])
            else:
                code = found
        if code is None and batch.late_of is not None and reading[2] // HOUR_MS != batch.late_of.hour:
            code = "outside-spool"
        if code is not None:
            judgement.rejected.setdefault(code, []).append(index)
        elif limits is not None and limits.is_late(reading[3]):
            judgement.late.append(index)
    return judgement


def _conflicts(batch: Batch, readings: Sequence[Reading], left_out: AbstractSet[int], state: Metering) -> Sequence[int]:
    """Return the indexes of readings that meet another level recorded before this batch."""
    opened: dict[tuple[int, int, int], steps.Points[int]] = {}
    found: list[int] = []
    for index, (device, lease, start, end, level) in enumerate(readings):
        if index in left_out:
            continue
        key = (batch.devices[device], batch.leases[lease])
        for epoch in range(state.grid.epoch_of(start), state.grid.epoch_of(end - 1) + 1):
            points = opened.get((device, lease, epoch))
            if points is None:
                points = opened[device, lease, epoch] = recorded(state.usage, epoch, key)
            if steps.disagrees(points, start, end, level):
                found.append(index)
                break
    return found


def _backfill(pairs: _Pairs) -> str | None:
    return next((limits.backfill for limits in pairs.values() if isinstance(limits, _Limits) and limits.backfill), None)


def _sorted(rejected: Mapping[RejectionCode, Sequence[int]]) -> dict[RejectionCode, tuple[int, ...]]:
    return {code: tuple(indexes) for code, indexes in sorted(rejected.items())}
