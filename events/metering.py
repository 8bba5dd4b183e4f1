"""Facts of metering: what may be consumed, what was measured, what it scored.

Streams: `rules`, `project/<slug>`, `backfill/<slug>`, `node/<id>`, `epoch/<n>`. Times are integer milliseconds UTC,
intervals half-open; levels are milli shares of one device (1000 = the whole device); amounts that may pass 2^53 are
decimal strings. Everything a score depends on stands in metering's own facts, so `through_position` names it all.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from events.envelope import Fact
from events.genesis import BackfillSource, MeteringRules, PerformanceTable
from events.registry import Window
from events.registry_terms import DeviceKind, SizeClass, WorkClass

RejectionCode = Literal[
    "unknown-device",
    "unknown-lease",
    "device-not-leased",
    "outside-lease",
    "too-long",
    "too-old",
    "in-the-future",
    "empty-interval",
    "level-out-of-range",
    "outside-spool",
]


class RulesAdopted(Fact, frozen=True):
    """Metering's parameters from now on. `epoch_zero_ms` and `epoch_ms` fix the grid of epochs for ever."""

    TYPE: ClassVar[str] = "metering.rules-adopted.v1"
    version: int
    epoch_zero_ms: int
    epoch_ms: int
    close_after_ms: int
    first_live_epoch: int
    rules: MeteringRules


class TableAdopted(Fact, frozen=True):
    """A performance table applies to every epoch that starts at or after `effective_ms`."""

    TYPE: ClassVar[str] = "metering.table-adopted.v1"
    table: PerformanceTable
    sha256: str
    effective_ms: int


class QuotaGranted(Fact, frozen=True):
    """A project may open leases worth so much more. `source` names what gave it (genesis, a grant)."""

    TYPE: ClassVar[str] = "metering.quota-granted.v1"
    project: str
    owner: str
    guild: str | None
    size_class: SizeClass
    work_class: WorkClass
    gpu_micro_rgpu_hours: str
    cpu_milli_core_hours: str
    source: str


class BackfillNamed(Fact, frozen=True):
    """A backfill was allowed; it opens when the ids of its nodes have been named."""

    TYPE: ClassVar[str] = "metering.backfill-named.v1"
    backfill: str
    start_ms: int
    end_ms: int
    node_count: int
    nodes_sha256: str
    sources: tuple[BackfillSource, ...]


class BackfillNodesNamed(Fact, frozen=True):
    """A page of a backfill's nodes, sorted; at most 1,000 ids. With the last page its hash is checked."""

    TYPE: ClassVar[str] = "metering.backfill-nodes-named.v1"
    backfill: str
    page: int
    nodes: tuple[str, ...]


class BackfillOpened(Fact, frozen=True):
    """All nodes are named: leases, readings and results inside the span may be recorded."""

    TYPE: ClassVar[str] = "metering.backfill-opened.v1"
    backfill: str


class BackfillClosed(Fact, frozen=True):
    """The history is complete: its epochs close now, in order."""

    TYPE: ClassVar[str] = "metering.backfill-closed.v1"
    backfill: str


class LeasedDevice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A device of a lease, `[device, model]`."""

    device: str
    model: str


class Lease(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a consumer may use, where and when. `share` is milli per device (gpu) or milli-cores (cpu).

    `charged` is what the quota paid: micro reference-GPU-hours (gpu) or milli-core-hours (cpu).
    `linked` names what both sides share (owner, key, guild, first funder); such a lease is shown and earns 0.
    `backfill` is the backfill whose span it lies in.
    """

    lease: str
    kind: DeviceKind
    node: str
    owner: str
    devices: tuple[LeasedDevice, ...]
    share: int
    start_ms: int
    end_ms: int
    work_class: WorkClass
    charged: str
    linked: Literal["owner", "key", "guild", "funder"] | None = None
    backfill: str | None = None
    renews: str | None = None
    escrow: str | None = None


class LeasesOpened(Fact, frozen=True):
    """1..50 leases of one project, all or none, in stream `project/<slug>`: the scarce budget decides.

    `authorization` is the consumer's JWS over the terms asked for; placement is the system's.
    """

    TYPE: ClassVar[str] = "metering.leases-opened.v1"
    project: str
    consumer: str
    leases: tuple[Lease, ...]
    authorization: str


class LeaseCancelled(Fact, frozen=True):
    """The consumer ended a lease before its end; what it did not use of its charge returns to the quota."""

    TYPE: ClassVar[str] = "metering.lease-cancelled.v1"
    project: str
    lease: str
    at_ms: int
    refunded: str
    authorization: str


class NodeAdopted(Fact, frozen=True):
    """What metering goes by for a node from `from_hour` on (whole hours since 1970): its owner, devices and window.

    Its hours inside the window are trials of availability; `window` None means that it has retired. Zone and PUE
    (x 1,000) are what its carbon is computed with.
    """

    TYPE: ClassVar[str] = "metering.node-adopted.v1"
    node: str
    owner: str
    devices: tuple[str, ...]
    window: Window | None
    from_hour: int
    zone: str
    pue_milli: int | None = None


class MaintenanceAnnounced(Fact, frozen=True):
    """Hours that are no trials of a node's availability, announced by its owner at least an hour ahead."""

    TYPE: ClassVar[str] = "metering.maintenance-announced.v1"
    node: str
    first_hour: int
    hours: int
    authorization: str


class HeartbeatHourRecorded(Fact, frozen=True):
    """A node's hour, recorded in time: the minutes both it and the instance saw, and the hash of its spool.

    `minutes` is a map of 60 bits as 15 hex digits, minute i counts 2^i. `jws` is the node's own word for its minutes
    and the hash, which late readings of the hour have to match.
    """

    TYPE: ClassVar[str] = "metering.heartbeat-hour-recorded.v1"
    node: str
    owner: str
    hour: int
    minutes: str
    spool_sha256: str
    jws: str


class SpoolPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which part of which hour's spool a late batch brings.

    `whole` tells that with it the hour is proved: all parts give the hash it was recorded with, so they count.
    """

    hour: int
    part: int
    parts: int
    whole: bool


class ReadingsRecorded(Fact, frozen=True):
    """One signed batch, as received, in stream `node/<id>`: the JWS holds node, number, tables and readings.

    `rejected` maps a code to the indexes of the readings it fell on, `late` lists those recorded more than an hour
    after their end, `conflicts` those that disagree with one recorded before. Rejected readings count nothing;
    late ones only under a spool hash recorded in time. `side` is always the provider's. `energy_rejected` are
    the indexes of energy readings that count nothing.
    """

    TYPE: ClassVar[str] = "metering.readings-recorded.v1"
    node: str
    batch: str
    number: int
    readings: int
    jws: str
    rejected: dict[RejectionCode, tuple[int, ...]] | None = None
    late: tuple[int, ...] = ()
    conflicts: tuple[int, ...] = ()
    side: Literal["provider", "consumer"] = "provider"
    spool_sha256: str | None = None
    backfill: str | None = None
    spool: SpoolPart | msgspec.UnsetType = msgspec.UNSET
    energy_rejected: tuple[int, ...] | msgspec.UnsetType = msgspec.UNSET


class ConsumerReadingsRecorded(Fact, frozen=True):
    """The consumer's side of leases of one project, as its owner signed it; rejected readings count nothing."""

    TYPE: ClassVar[str] = "metering.consumer-readings-recorded.v1"
    project: str
    consumer: str
    batch: str
    number: int
    readings: int
    jws: str
    rejected: dict[RejectionCode, tuple[int, ...]] | None = None


class ChallengeResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One benchmark run: throughput is a decimal string per second; None is no answer in time (a failure)."""

    challenge: str
    device: str
    model: str
    work_class: WorkClass
    benchmark: str
    seed: str
    digest: str
    start_ms: int
    end_ms: int
    throughput: str | None


class ChallengeResultsRecorded(Fact, frozen=True):
    """1..50 results of one node's devices; both JWS sign the same payload, the challenger's and the node's.

    `passed[i]` tells whether result i passed (METERING "Challenges"); `node_jws` is None when the node gave no answer.
    """

    TYPE: ClassVar[str] = "metering.challenge-results-recorded.v1"
    node: str
    owner: str
    challenger: str
    results: tuple[ChallengeResult, ...]
    passed: tuple[bool, ...]
    challenger_jws: str
    node_jws: str | None
    backfill: str | None = None


class OverCapacityDetected(Fact, frozen=True):
    """Readings on a device summed above the whole device in this interval: it pays 0 for every lease there."""

    TYPE: ClassVar[str] = "metering.over-capacity-detected.v1"
    node: str
    device: str
    epoch: int
    start_ms: int
    end_ms: int
    level: int


class ReliabilityChanged(Fact, frozen=True):
    """The reliability of a device or an owner differs from when it was last needed; ppm (6 decimals).

    `cause` says in words what bounds it now; `owner` is a device's owner, absent when the subject is an owner.
    """

    TYPE: ClassVar[str] = "metering.reliability-changed.v1"
    subject: str
    epoch: int
    before_ppm: int
    after_ppm: int
    cause: str
    owner: str | None = None


class DeviceScore(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A device's part in its node's score: `[device, work_class, share_milli_ms, pf, r_ppm]`.

    `share_milli_ms` is a decimal string; `pf` is the performance factor x 10,000; both factors as of epoch start.
    """

    device: str
    work_class: WorkClass
    share_milli_ms: str
    performance_factor: int
    reliability_ppm: int


class Carbon(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Milligrams of CO2 equivalent of a node's energy with its PUE, at one factor; `low` and `high` are its range.

    `sci_milligrams` are those per reference-GPU-hour scored, absent where nothing was: no average of rates is taken.
    """

    milligrams: str
    low_milligrams: str
    high_milligrams: str
    factor: str
    year: int
    method: str
    sci_milligrams: str | None = None


class Energy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node's meters read in an epoch, micro-kWh: `operations` and declared `idle` are the whole, exactly.

    `pue_milli` is absent where the owner states none; then no overhead is added.
    """

    meter_micro_kwh: str
    operations_micro_kwh: str
    idle_micro_kwh: str
    sources: tuple[str, ...]
    pue_milli: int | None = None
    carbon: Carbon | None = None


class NodeScore(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A node in an epoch. `micro_rgpu_hours` is its Compute Score, rounded half-even once.

    The three columns are never mixed: `allocated` earns (counted share x ms), `offered` and `utilised` are shown.
    Energy and carbon are absent where no meter supplied any; the flat figures repeat what `energy` says in full.
    """

    node: str
    owner: str
    micro_rgpu_hours: str
    offered_milli_ms: str
    allocated_milli_ms: str
    utilised_milli_ms: str
    devices: tuple[DeviceScore, ...]
    energy_micro_kwh: str | None = None
    carbon_milligrams: str | None = None
    carbon_factor: str | None = None
    energy: Energy | msgspec.UnsetType = msgspec.UNSET


class EpochPaged(Fact, frozen=True):
    """At most 200 nodes (fewer when they would not fit) with their scores, sorted by node id; pages come first."""

    TYPE: ClassVar[str] = "metering.epoch-paged.v1"
    epoch: int
    page: int
    nodes: tuple[NodeScore, ...]


class EpochTotals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Sums over all nodes of an epoch and sub-pool."""

    micro_rgpu_hours: str
    allocated_milli_ms: str
    utilised_milli_ms: str
    offered_milli_ms: str
    nodes: int


class EpochClosed(Fact, frozen=True):
    """An epoch is over, computed from exactly the facts up to `through_position` of this service.

    `root` is the RFC 6962 Merkle root (hex) over the `data` bytes of its pages in order. `backfill` names the
    backfill whose own fund pays it; None for a live epoch, which emission pays.
    """

    TYPE: ClassVar[str] = "metering.epoch-closed.v1"
    epoch: int
    start_ms: int
    end_ms: int
    through_position: str
    pages: int
    root: str
    totals: dict[Literal["gpu", "cpu", "storage", "bandwidth"], EpochTotals]
    table_sha256: dict[WorkClass, str]
    backfill: str | None = None


class LateUsageScored(Fact, frozen=True):
    """Usage of a closed epoch that was recorded in time but after its close, at the lower factors of both epochs.

    `pages` and `total_micro_rgpu_hours` span all pages of one `(epoch, scored_in)`: they are paid together.
    """

    TYPE: ClassVar[str] = "metering.late-usage-scored.v1"
    epoch: int
    scored_in: int
    page: int
    pages: int
    total_micro_rgpu_hours: str
    nodes: tuple[NodeScore, ...]


FACTS: tuple[type[Fact], ...] = (
    RulesAdopted,
    TableAdopted,
    QuotaGranted,
    BackfillNamed,
    BackfillNodesNamed,
    BackfillOpened,
    BackfillClosed,
    LeasesOpened,
    LeaseCancelled,
    NodeAdopted,
    MaintenanceAnnounced,
    HeartbeatHourRecorded,
    ReadingsRecorded,
    ConsumerReadingsRecorded,
    ChallengeResultsRecorded,
    OverCapacityDetected,
    ReliabilityChanged,
    EpochPaged,
    EpochClosed,
    LateUsageScored,
)
