"""Where a lease goes: the system picks the node, the consumer does not (METERING "Leases").

Least used share first, where a node's used share is the peak of promised shares over the lease's interval, out of
all its devices; ties by SHA-256 of (lease id, node id). On the node the least used devices, ties by device id.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Final

from immutables import Map

from events.registry import NodeRegistered, Window
from events.registry_terms import DeviceKind
from events.values import DAY_MS, HOUR_MS
from services.kernel.directory import Node
from services.metering.commands import LeaseTerms
from services.metering.kinds import WHOLE_DEVICE
from services.metering.state import Booking

BYTES_PER_MB: Final = 1_000_000
BITS_PER_KB: Final = 8_000
MAX_WHOLE: Final = 10**9
"""What is leased of a node's kind at most, a million units: levels x ms of its epochs stay within 64 bits."""

_HOURS: Final = 24

_Clipped = tuple[int, int, int, tuple[str, ...]]
"""Start, end, share per device, device ids: a promise as far as it meets the lease."""


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A node as a place for leases of one kind: its devices `(id, model)` of it sorted by id, the level of the whole.

    `whole` is of each GPU, or of all the node's cores, storage or bandwidth, which are one device at most.
    """

    node: str
    tie: bytes
    devices: tuple[tuple[str, str], ...]
    whole: int
    window: Window

    def capacity(self, kind: DeviceKind) -> int:
        """Return what can be promised in all."""
        return self.whole * len(self.devices) if kind == "gpu" else self.whole


@dataclass(frozen=True, slots=True)
class Placed:
    """The outcome: a node, the devices on it (none where cores are only held), and the level of the whole of each."""

    node: str
    devices: tuple[tuple[str, str], ...]
    whole: int


@dataclass(slots=True)
class Booked:
    """Promises per node, with the end of the last one of each node: where that has passed, nothing is in the way."""

    of: dict[str, Sequence[Booking]]
    until: dict[str, int]

    @classmethod
    def from_state(cls, bookings: Mapping[str, Sequence[Booking]]) -> Booked:
        """Return a copy that a bulk of leases can add to."""
        of = dict(bookings)
        return cls(of, {node: max(booking[1] for booking in booked) for node, booked in of.items()})

    def add(self, node: str, booking: Booking) -> None:
        """Promise more of a node."""
        self.of[node] = (*self.of.get(node, ()), booking)
        self.until[node] = max(self.until.get(node, 0), booking[1])

    def near(self, node: str, start: int, end: int) -> Sequence[_Clipped]:
        """Return a node's promises inside an interval, clipped to it, so that no peak outside counts."""
        if self.until.get(node, 0) <= start:
            return ()
        return [
            (max(since, start), min(until, end), share, names)
            for since, until, share, names, _ in self.of[node]
            if since < end and until > start
        ]


@dataclass(frozen=True, slots=True, eq=False)
class Roll:
    """The registry's nodes by identity: one immutable map is one roll, so what follows from it is worked out once."""

    nodes: Map[str, Node]

    def __hash__(self) -> int:
        return id(self.nodes)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Roll) and self.nodes is other.nodes


@lru_cache(maxsize=8)
def places(roll: Roll, kind: DeviceKind) -> tuple[Place, ...]:
    """Return the active nodes as places for leases of a kind, sorted by node id."""
    return tuple(
        Place(
            node.node,
            node.node.encode(),
            tuple(sorted((device.device, device.model) for device in node.fact.devices if device.kind == kind)),
            whole(kind, node.fact),
            node.window,
        )
        for node in sorted(roll.nodes.values(), key=lambda node: node.node)
        if node.status == "active"
    )


def whole(kind: DeviceKind, node: NodeRegistered) -> int:
    """Return the level of the whole of a node's devices of a kind: of each GPU, of all that it states of the others.

    What a node states beyond `MAX_WHOLE` is not leased.
    """
    if kind == "gpu":
        return WHOLE_DEVICE
    if kind == "cpu":
        return min(node.cpu_milli, MAX_WHOLE)
    stated, unit = node.bandwidth_bits_per_second, BITS_PER_KB
    if kind == "storage":
        stated, unit = node.storage_bytes, BYTES_PER_MB
    return min(stated // unit, MAX_WHOLE)


@lru_cache(maxsize=32)
def suited(
    roll: Roll, members: frozenset[str] | None, kind: DeviceKind, devices: int, models: tuple[str, ...]
) -> tuple[Place, ...]:
    """Return the places with so many devices of the models (any when none is named), among `members` if given."""
    return tuple(
        one
        for one in places(roll, kind)
        if (members is None or one.node in members)
        and sum(not models or model in models for _, model in one.devices) >= devices
    )


def place(
    terms: LeaseTerms, roll: Roll, booked: Booked, members: frozenset[str] | None, *, named: bool
) -> tuple[Placed | None, bool]:
    """Return the best place for a lease, and whether any node suited it at all.

    `members`, when given, are the only nodes that may be picked and their windows do not matter (a backfill's). `named`
    tells whether leases of the kind are of devices; history may hold cores of nodes that name none.
    """
    start, end = terms.start_ms, terms.end_ms
    needed = terms.devices
    if terms.kind != "gpu" and named and (members is None or terms.kind != "cpu"):
        needed = 1
    candidates: Iterable[Place] = suited(roll, members, terms.kind, needed, terms.models)
    if members is None:
        candidates = [one for one in candidates if covers(one.window, start, end)]
    if terms.kind != "gpu":
        candidates = [one for one in candidates if one.whole >= terms.share]
    until = booked.until.get
    idle = [one for one in candidates if until(one.node, 0) <= start or not booked.near(one.node, start, end)]
    if idle:
        best = min(idle, key=_tie(terms))
        devices = _fitting(best, terms)[: terms.devices] if terms.kind == "gpu" else _single(best, named=named)
        return Placed(best.node, devices, best.whole), True
    return _least_used(terms, candidates, booked, named=named), bool(candidates)


def _single(one: Place, *, named: bool) -> tuple[tuple[str, str], ...]:
    """Return a node's device of a kind of which it has one; none where the lease only holds capacity."""
    return one.devices[:1] if named else ()


def _tie(terms: LeaseTerms) -> Callable[[Place], bytes]:
    prefix = terms.lease.encode() + b"\0"
    return lambda one: sha256(prefix + one.tie).digest()


def _fitting(one: Place, terms: LeaseTerms) -> tuple[tuple[str, str], ...]:
    if not terms.models:
        return one.devices
    return tuple(device for device in one.devices if device[1] in terms.models)


def _least_used(terms: LeaseTerms, candidates: Iterable[Place], booked: Booked, *, named: bool) -> Placed | None:
    """Return the least used of nodes that are all in use; shares are compared as exact fractions."""
    best: list[tuple[Place, Placed]] = []
    least, of = 1, 0
    for one in candidates:
        near = booked.near(one.node, terms.start_ms, terms.end_ms)
        capacity = one.capacity(terms.kind)
        used = peak((since, until, share * max(1, len(names))) for since, until, share, names in near)
        if best and used * of > least * capacity:
            continue
        devices = _room(one, near, terms, used, named=named)
        if devices is None:
            continue
        if not best or used * of < least * capacity:
            best, least, of = [], used, capacity
        best.append((one, Placed(one.node, devices, one.whole)))
    tie = _tie(terms)
    return min(best, key=lambda found: tie(found[0]))[1] if best else None


def _room(
    one: Place, near: Sequence[_Clipped], terms: LeaseTerms, used: int, *, named: bool
) -> tuple[tuple[str, str], ...] | None:
    """Return the least used devices with room for the lease, or None when it does not fit."""
    if terms.kind != "gpu":
        return _single(one, named=named) if used + terms.share <= one.whole else None
    room: list[tuple[int, tuple[str, str]]] = []
    for device in _fitting(one, terms):
        promised = peak((since, until, share) for since, until, share, names in near if device[0] in names)
        if promised + terms.share <= one.whole:
            room.append((promised, device))
    if len(room) < terms.devices:
        return None
    return tuple(sorted(device for _, device in sorted(room)[: terms.devices]))


def peak(promises: Iterable[tuple[int, int, int]]) -> int:
    """Return the highest sum of overlapping `(start, end, share)`; all of them meet the interval in question."""
    changes: list[tuple[int, int]] = []
    for start, end, share in promises:
        changes += ((start, share), (end, -share))
    # At one instant what ends makes room for what begins: intervals are half-open.
    changes.sort()
    highest = total = 0
    for _, change in changes:
        total += change
        highest = max(highest, total)
    return highest


def covers(window: Window, start_ms: int, end_ms: int) -> bool:
    """Tell whether a stated availability window covers an interval; windows are whole hours of each UTC day."""
    hours = window.to_hour - window.from_hour
    if hours in {0, _HOURS}:
        return True
    open_ms = hours % _HOURS * HOUR_MS
    return (start_ms - window.from_hour * HOUR_MS) % DAY_MS + (end_ms - start_ms) <= open_ms
