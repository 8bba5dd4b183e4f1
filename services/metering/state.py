"""The state metering decides from: immutable values with persistent maps inside, folded from its own facts only."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeVar

from immutables import Map

from events.genesis import BackfillSource
from events.metering import Lease, NodeAdopted, RulesAdopted, TableAdopted
from events.registry import Embodied, Window
from events.registry_terms import DeviceKind, GpuClass, SizeClass, WorkClass
from services.metering.grid import Grid
from services.metering.holdback import Holdback

K = TypeVar("K")
V = TypeVar("V")
N = TypeVar("N")

DeviceLease = tuple[str, str]
"""(device id, lease id): what one step function of readings belongs to."""

ClaimClass = tuple[str, str, WorkClass]
"""(node id, device id, class of work): what has one performance factor and one owner. A device may change its node."""

Booking = tuple[int, int, int, tuple[str, ...], str]
"""Start, end, share per device, device ids, lease id: capacity of one kind and node that is promised."""

Trials = tuple[tuple[int, int, int, int], ...]
"""Sorted (tick, successes, failures, count): the outcomes of one subject, summed per tick of the grid."""


@dataclass(frozen=True, slots=True)
class Project:
    """A consumer of the pool and what is left of its quota (see `kinds.CHARGES`); `work_class` is of its GPU leases."""

    slug: str
    owner: str
    guild: str | None
    size_class: SizeClass
    work_class: GpuClass
    left: Map[DeviceKind, int]

    def with_more(self, kind: DeviceKind, amount: int) -> Project:
        """Return the project with more left of a kind, or less."""
        return replace(self, left=self.left.set(kind, self.left.get(kind, 0) + amount))


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
    """What is known of the reliability of a device or an owner: trials of challenges, leases and hours.

    `owner` is who held the device at its last trial, None for an owner itself.
    """

    challenges: Trials = ()
    leases: Trials = ()
    availability: Trials = ()
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class Proof:
    """A challenge of a storage lease: when it ended, and from when on it may prove (what was closed then is not)."""

    end_ms: int
    passed: bool
    challenge: str
    from_ms: int


@dataclass(frozen=True, slots=True)
class Stated:
    """What a node stated from an hour on (since 1970); `window` None: it has retired."""

    from_hour: int
    owner: str
    devices: tuple[str, ...]
    window: Window | None
    zone: str
    pue_milli: int | None
    embodied: Embodied | None = None

    @classmethod
    def by(cls, fact: NodeAdopted) -> Stated:
        """Return what the fact says."""
        terms = (fact.zone, fact.pue_milli, fact.embodied or None)
        return cls(fact.from_hour, fact.owner, fact.devices, fact.window, *terms)


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour of a node, recorded in time: its map of heartbeats and the hash of its spool (hex)."""

    minutes: int
    spool_sha256: str
    proved: bool = False
    """Whether its spool came back late and gave that hash."""


@dataclass(frozen=True, slots=True)
class LatePart:
    """A part of an hour's spool that waits for the others: its batch, and the indexes that count nothing."""

    jws: str
    rejected: frozenset[int]


@dataclass(frozen=True, slots=True)
class Spool:
    """An hour's spool on its way: how many parts it has, and those that are here."""

    parts: int
    here: Map[int, LatePart] = Map()


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
    bookings: Map[DeviceKind, Map[str, tuple[Booking, ...]]] = Map()
    """Kind and node to what is promised of it."""
    usage: Map[int, Map[DeviceLease, bytes]] = Map()
    """Epoch to what was read in it, see `steps`; an epoch is dropped once nothing can change what it earned."""
    consumed: Map[int, Map[DeviceLease, bytes]] = Map()
    """Epoch to what consumers read in it, like `usage`."""
    covered: Map[DeviceLease, int] = Map()
    """Milliseconds with a reading, over closed epochs, of leases that go on."""
    results: Map[str, tuple[Result, ...]] = Map()
    proofs: Map[str, tuple[Proof, ...]] = Map()
    """Storage lease to its challenges, oldest first."""
    records: Map[str, Record] = Map()
    standings: Map[str, Standing] = Map()
    paid: Map[int, Map[ClaimClass, Paid]] = Map()
    """Closed live epochs that usage recorded in time may still be added to."""
    touched: frozenset[int] = frozenset()
    """Closed live epochs with readings recorded after their close."""
    stated: Map[str, tuple[Stated, ...]] = Map()
    """Node to what it stated, oldest first; only what hours to be judged still need."""
    hours: Map[str, Map[int, Hour]] = Map()
    spools: Map[str, Map[int, Spool]] = Map()
    maintenance: Map[str, frozenset[int]] = Map()
    energy: Map[int, Map[str, frozenset[tuple[int, int, int, str]]]] = Map()
    """Epoch and node to what its meters read, `(start, end, micro-kWh, meter)`, until the epoch closes."""
    holdback: Holdback = field(default_factory=Holdback)
    next_hour: int = 0
    """The first hour (since 1970) that is no trial of availability yet; 0 before any node was taken over."""
    first_live: int = 0
    next_live: int = 0
    next_settled: int = 0
    """The first live epoch whose ended leases are no trials yet: readings in time may still come."""
    first_kept: int = 0
    first_booked: int = 0
    """The first live epoch whose ended leases still stand in the bookings."""


def mapped(of: Map[N, Map[K, V]], name: N) -> Map[K, V]:
    """Return the map that stands under a name, empty where there is none."""
    return of.get(name, Map())
