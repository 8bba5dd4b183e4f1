"""What an epoch counts: per device and class the counted share, per node the Compute Score (METERING "Epochs").

Counted share at an instant = min(lease share, reading, the consumer's reading where that is mandatory); where a
device's readings sum above the whole device it is 0 for every lease there, and where storage was not proved too. Three
columns, never mixed: *offered* is the whole of every device with a lease or a reading in the epoch, *allocated* the
counted share of leases that earn, *utilised* what the provider's readings say, lease by lease. Every kind is scored by
itself, so a node has one entry per kind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from immutables import Map

from events.metering import DeviceScore, NodeScore
from events.registry_terms import DeviceKind, WorkClass
from events.values import MILLI_MS_PER_GPU_HOUR, PF_UNIT, round_half_even
from services.metering import steps
from services.metering.consumer import earning, is_mandatory, unless_withheld
from services.metering.kinds import WHOLE_DEVICE, is_metered, whole_of
from services.metering.performance import of_class, performance_factor
from services.metering.reliability import EMPTY, is_new, reliability
from services.metering.state import ClaimClass, DeviceLease, LeaseState, Metering, Record, Standing, mapped
from services.metering.storage import proved

Factors = tuple[int, int]
"""Performance factor x 10,000 and reliability in ppm."""

NodeDevice = tuple[str, str]
"""(node id, device id): what has one owner and is full at the whole device."""

Claim = tuple[LeaseState, "steps.Points[int]"]
"""A lease on a device, and what was read of it there."""

PER_MICRO = MILLI_MS_PER_GPU_HOUR * PF_UNIT
"""share_milli x ms x PF x R(ppm), divided by this, are micro reference-GPU-hours."""


@dataclass(slots=True)
class DeviceTally:
    """A device in an epoch: what it counted per class (leases that earn), and what readings say."""

    model: str
    whole: int = WHOLE_DEVICE
    counted: dict[WorkClass, int] = field(default_factory=dict)
    utilised: int = 0
    over: list[tuple[int, int, int]] = field(default_factory=list)
    withheld: list[tuple[str, int]] = field(default_factory=list)
    """(lease, share x ms) that did not count because the consumer gave no readings."""


@dataclass(slots=True)
class NodeTally:
    """A node in an epoch."""

    owner: str
    devices: dict[str, DeviceTally] = field(default_factory=dict)


def tally(state: Metering, epoch: int, kind: DeviceKind) -> dict[str, NodeTally]:
    """Return every node with a lease or a reading of a kind in the epoch, sorted by id, its devices sorted too."""
    start, end = state.grid.start(epoch), state.grid.end(epoch)
    page: Map[DeviceLease, bytes] = state.usage.get(epoch, Map())
    # By node and device: one that changed its node, or whose id two nodes proved to hold, earns where it was leased.
    claims: dict[NodeDevice, list[Claim]] = {}
    for node_id, booked in mapped(state.bookings, kind).items():
        for since, until, _, devices, lease_id in booked:
            if since < end and until > start:
                for device in devices:
                    points = steps.load(page.get((device, lease_id), b""))
                    claim = (state.leases[lease_id], steps.before(points, until))
                    claims.setdefault((node_id, device), []).append(claim)
    return _tallied(state, epoch, claims)


def tally_read(state: Metering, epoch: int, kind: DeviceKind) -> dict[str, NodeTally]:
    """Return every node with a reading of a kind in a closed epoch, whose bookings may be gone."""
    claims: dict[NodeDevice, list[Claim]] = {}
    for (device, lease_id), raw in sorted(state.usage.get(epoch, Map()).items()):
        lease = state.leases.get(lease_id)  # gone where it was cancelled before the epoch, and then nothing counts
        if lease is not None and lease.fact.kind == kind and is_metered(lease, device):
            claim = (lease, steps.before(steps.load(raw), lease.end_ms))
            claims.setdefault((lease.fact.node, device), []).append(claim)
    return _tallied(state, epoch, claims)


def _tallied(state: Metering, epoch: int, claims: Mapping[NodeDevice, Sequence[Claim]]) -> dict[str, NodeTally]:
    nodes: dict[str, NodeTally] = {}
    for (node_id, device_id), read in claims.items():
        fact = read[0][0].fact
        model = next(device.model for device in fact.devices if device.device == device_id)
        node = nodes.setdefault(node_id, NodeTally(fact.owner))
        node.devices[device_id] = _device(state, epoch, device_id, DeviceTally(model, whole_of(fact)), read)
    for node in nodes.values():
        node.devices = dict(sorted(node.devices.items()))
    return dict(sorted(nodes.items()))


def _device(
    state: Metering,
    epoch: int,
    device: str,
    found: DeviceTally,
    read: Sequence[Claim],
) -> DeviceTally:
    start, end = state.grid.start(epoch), state.grid.end(epoch)
    if len(read) > 1:
        found.over = steps.over([points for _, points in read], found.whole)
    for lease, points in read:
        if not points:
            continue
        found.utilised += steps.amount(points, found.whole, start, end)
        if lease.fact.linked is not None:
            continue
        counted = _counted(state, epoch, lease, found, earning(state, epoch, device, lease, points))
        kind = lease.fact.work_class
        found.counted[kind] = found.counted.get(kind, 0) + counted
        if is_mandatory(state, lease):
            whole = _counted(state, epoch, lease, found, unless_withheld(state, epoch, device, lease, points))
            if whole > counted:
                found.withheld.append((lease.fact.lease, whole - counted))
    return found


def _counted(state: Metering, epoch: int, lease: LeaseState, found: DeviceTally, levels: steps.Points[int]) -> int:
    """Return share x ms of levels that may earn, under the lease's share, outside what is over capacity or unproved."""
    if lease.fact.kind == "storage":
        levels = steps.within(levels, proved(state, lease))
    counted = steps.amount(levels, lease.fact.share, state.grid.start(epoch), state.grid.end(epoch))
    return counted - steps.amount_inside(levels, lease.fact.share, found.over)


def micro_rgpu_hours(weighted: int) -> int:
    """Return the sum of share_milli x ms x PF x R(ppm) as micro reference-GPU-hours, rounded half-even, once."""
    return round_half_even(weighted, PER_MICRO)


@dataclass(frozen=True, slots=True)
class Judged:
    """The reliability of devices and owners at an epoch's start, ppm, with which bound made it so."""

    devices: Mapping[str, tuple[int, str]]
    owners: Mapping[str, tuple[int, str]]

    def of(self, device: str, owner: str) -> int:
        """Return R: the lower of device and owner."""
        return min(self.devices[device][0], self.owners[owner][0])


def judge(state: Metering, epoch: int, owned: Sequence[tuple[str, str]]) -> Judged:
    """Return the reliability at the epoch's start of `(device, owner)` pairs."""
    assert state.rules is not None
    grid, availability = state.grid, state.rules.rules.availability_trials and epoch >= state.first_live
    known = {device: state.records.get(device, Record()) for device, _ in owned}
    new = {owner for device, owner in owned if is_new(known[device], grid, epoch)}
    lowest = _lowest(state, epoch, new, availability=availability)
    devices: dict[str, tuple[int, str]] = {}
    owners: dict[str, tuple[int, str]] = {}
    for device, owner in owned:
        if owner not in owners:
            owners[owner] = reliability(state.records.get(owner, Record()), grid, epoch, availability=availability)
        found = reliability(known[device], grid, epoch, availability=availability)
        if is_new(known[device], grid, epoch) and lowest.get(owner, EMPTY) < found[0]:
            found = (lowest[owner], "owner's lowest device")
        # Two owners may have leased out one device in the epoch: the lower bound holds, whatever their order.
        devices[device] = min(found, devices.get(device, found))
    return Judged(devices, owners)


def _lowest(state: Metering, epoch: int, owners: Collection[str], *, availability: bool) -> Mapping[str, int]:
    """Return the lowest reliability of each owner's devices, leased or not; only a failure brings it under EMPTY."""
    lowest: dict[str, int] = {}
    for record in state.records.values() if owners else ():
        owner = record.owner
        if owner is None or owner not in owners:
            continue
        hours = record.availability if availability else ()
        if any(lost for _, _, lost, _ in (*record.challenges, *record.leases, *hours)):
            found, _ = reliability(record, state.grid, epoch, availability=availability)
            lowest[owner] = min(found, lowest.get(owner, EMPTY))
    return lowest


def standing_of(state: Metering, subject: str, owner: str | None) -> Standing:
    """Return what a subject stood at; the empty bound before it was ever needed."""
    return state.standings.get(subject, Standing(EMPTY, owner))


def factor_of(state: Metering, device: str, model: str, work_class: WorkClass, at_ms: int) -> int:
    """Return the performance factor x 10,000 of a device for a class at an instant."""
    table = of_class(state.tables.get(work_class, ()), at_ms)
    return performance_factor(state.results.get(device, ()), table, model, at_ms)


def node_score(node: str, tallied: NodeTally, factors: Mapping[ClaimClass, Factors], epoch_ms: int) -> NodeScore:
    """Return a node's page entry; its score is rounded once."""
    scores: list[DeviceScore] = []
    weighted = 0
    for device_id, device in tallied.devices.items():
        for kind, counted in sorted(device.counted.items()):
            factor, ppm = factors[node, device_id, kind]
            weighted += counted * factor * ppm
            scores.append(DeviceScore(device_id, kind, str(counted), factor, ppm))
    return NodeScore(
        node,
        tallied.owner,
        str(micro_rgpu_hours(weighted)),
        str(epoch_ms * sum(device.whole for device in tallied.devices.values())),
        str(sum(sum(device.counted.values()) for device in tallied.devices.values())),
        str(sum(device.utilised for device in tallied.devices.values())),
        tuple(scores),
    )


def factors_at(
    state: Metering, epoch: int, tallied: Mapping[str, NodeTally], judged: Judged
) -> dict[ClaimClass, Factors]:
    """Return both factors of every device and class that counted something, frozen at the epoch's start."""
    at_ms = state.grid.start(epoch)
    return {
        (node_id, device_id, kind): (
            factor_of(state, device_id, device.model, kind, at_ms),
            judged.of(device_id, node.owner),
        )
        for node_id, node in tallied.items()
        for device_id, device in node.devices.items()
        for kind in device.counted
    }
