"""The state metering decides from: immutable values with persistent maps inside, folded from its own facts only."""

from __future__ import annotations

from dataclasses import dataclass, field

from immutables import Map

from events.genesis import BackfillSource
from events.metering import Lease, RulesAdopted, TableAdopted
from events.registry_terms import SizeClass, WorkClass
from services.metering.grid import Grid

DeviceLease = tuple[str, str]
"""(device id, lease id): what one step function of readings belongs to."""

ClaimClass = tuple[str, str, WorkClass]
"""(node id, device id, class of work): what has one performance factor and one owner. A device may change its node."""

Booking = tuple[int, int, int, tuple[str, ...], str]
"""Start, end, share per device, device ids, lease id: capacity of one node that is promised."""

Trials = tuple[tuple[int, int, int, int], ...]
"""Sorted (tick, successes, failures, count): the outcomes of one subject, summed per tick of the grid."""


@dataclass(frozen=True, slots=True)
class Project:
    """A consumer of the pool and what is left of its quota."""

    slug: str
    owner: str
    guild: str | None
    size_class: SizeClass
    work_class: WorkClass
    gpu_micro_rgpu_hours: int
    cpu_milli_core_hours: int


@dataclass(frozen=True, slots=True)
class Backfill:
    """Permission to record older history. `next_epoch` is the next of its epochs to close."""

    backfill: str
    start_ms: int
    end_ms: int
    node_count: int
    nodes_sha256: str
    sources: tuple[BackfillSource, ...]
    first_epoch: int
    last_epoch: int
    next_epoch: int
    pages: int = 0
    nodes: tuple[str, ...] = ()
    members: frozenset[str] = frozenset()
    """The same nodes once the backfill is open, for look-ups."""
    opened: bool = False
    closed: bool = False

    @property
    def is_open(self) -> bool:
        """Whether history may be recorded now."""
        return self.opened and not self.closed

    @property
    def is_settled(self) -> bool:
        """Whether all epochs that are its own are closed."""
        return self.closed and self.next_epoch > self.last_epoch


@dataclass(frozen=True, slots=True)
class LeaseState:
    """A lease as it stands: `end_ms` moves when it is cancelled."""

    fact: Lease
    project: str
    end_ms: int
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Result:
    """A benchmark run of a device. `throughput_micro` is millionths per second; None when there was no answer."""

    end_ms: int
    challenge: str
    benchmark: str
    work_class: WorkClass
    throughput_micro: int | None
    passed: bool


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of the reliability of a device or an owner: challenge trials and lease trials.

    `owner` is who held the device at its last trial, None for an owner itself.
    """

    challenges: Trials = ()
    leases: Trials = ()
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """The reliability (ppm) of a subject when an epoch last needed it; `owner` is None for an owner itself."""

    ppm: int
    owner: str | None


@dataclass(frozen=True, slots=True)
class Paid:
    """What a closed live epoch counted for a node's device and class, at which factors (PF x 10,000, R in ppm)."""

    share_milli_ms: int
    performance_factor: int
    reliability_ppm: int


@dataclass(frozen=True, slots=True)
class Metering:
    """All of it. Epochs from `first_live` on are live; `next_live` closes next, before `first_kept` none is kept."""

    rules: RulesAdopted | None = None
    grid: Grid = field(default_factory=Grid)
    tables: Map[WorkClass, tuple[TableAdopted, ...]] = Map()
    projects: Map[str, Project] = Map()
    backfills: Map[str, Backfill] = Map()
    leases: Map[str, LeaseState] = Map()
    ending: Map[int, frozenset[str]] = Map()
    """Epoch to the leases that end in it."""
    gpu_bookings: Map[str, tuple[Booking, ...]] = Map()
    cpu_bookings: Map[str, tuple[Booking, ...]] = Map()
    usage: Map[int, Map[DeviceLease, bytes]] = Map()
    """Epoch to what was read in it, see `steps`; an epoch is dropped once nothing can change what it earned."""
    covered: Map[DeviceLease, int] = Map()
    """Milliseconds with a reading, over closed epochs, of leases that go on."""
    results: Map[str, tuple[Result, ...]] = Map()
    records: Map[str, Record] = Map()
    standings: Map[str, Standing] = Map()
    paid: Map[int, Map[ClaimClass, Paid]] = Map()
    """Closed live epochs that usage recorded in time may still be added to."""
    touched: frozenset[int] = frozenset()
    """Closed live epochs with readings recorded after their close."""
    first_live: int = 0
    next_live: int = 0
    next_settled: int = 0
    """The first live epoch whose ended leases are no trials yet: readings in time may still come."""
    first_kept: int = 0
