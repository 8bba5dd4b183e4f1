"""Facts of metering: what may be consumed, what was measured, what it scored.

Streams: `rules`, `project/<slug>`, `backfill/<slug>`, `node/<id>`, `epoch/<n>`. Times are integer milliseconds UTC,
intervals half-open; amounts that may pass 2^53 are decimal strings. Everything a score depends on stands in metering's
own facts, so `through_position` names it all.

Levels are thousandths of the kind's unit: milli shares of one GPU (1000 = the whole device), milli-cores, MB of storage
(10^6 bytes), kB/s of bandwidth (10^3 bytes per second). Level x ms / 3.6 x 10^9 are unit-hours: GPU-hours, core-hours,
GB-hours, hours of 1 MB/s; `micro_rgpu_hours` are millionths of the kind's reference unit-hour, whatever the kind.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from events.envelope import Fact
from events.genesis import BackfillSource, MeteringRules, PerformanceTable
from events.registry import Embodied, Window
from events.registry_terms import DeviceKind, GpuClass, SizeClass, WorkClass

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
    """A project may open leases worth so much more. `source` names what gave it (genesis, a grant).

    `work_class` is the class of its GPU leases. `storage_mb_hours` and `bandwidth_mb` are left out where there is none.
    """

    TYPE: ClassVar[str] = "metering.quota-granted.v1"
    project: str
    owner: str
    guild: str | None
    size_class: SizeClass
    work_class: GpuClass
    gpu_micro_rgpu_hours: str
    cpu_milli_core_hours: str
    source: str
    storage_mb_hours: str | msgspec.UnsetType = msgspec.UNSET
    bandwidth_mb: str | msgspec.UnsetType = msgspec.UNSET


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


class Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a storage lease keeps: the RFC 6962 Merkle root (hex) over its chunks of 512 bytes, and its length.

    The last chunk is padded by zeros. Its consumer should have encrypted it: challenged chunks appear in the log.
    """

    root: str
    bytes: int


class Lease(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a consumer may use, where and when. `share` is a level: milli per GPU, milli-cores, MB, or kB/s.

    `charged` is what the quota paid, in the kind's own: micro reference-GPU-hours, milli-core-hours, MB-hours, or MB.
    A lease of processors without devices only holds capacity. `whole` is the level of the whole of each of its devices;
    where it is left out that is 1000, one GPU. `work_class` is the kind itself but for GPUs. `content` is storage's.
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
    whole: int | msgspec.UnsetType = msgspec.UNSET
    content: Content | msgspec.UnsetType = msgspec.UNSET


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

    Its hours inside the window are trials of availability; `window` None means that it has retired. Zone, PUE (x 1,000)
    and what making it emitted are what its carbon is computed with.
    """

    TYPE: ClassVar[str] = "metering.node-adopted.v1"
    node: str
    owner: str
    devices: tuple[str, ...]
    window: Window | None
    from_hour: int
    zone: str
    pue_milli: int | None = None
    embodied: Embodied | msgspec.UnsetType = msgspec.UNSET


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


class StorageChallenged(Fact, frozen=True):
    """A node was asked for drawn chunks of a storage lease, in stream `node/<id>`; both JWS stand as received.

    `challenger_jws` signs seed and times, and which answer it got; `node_jws` is that answer, None when none came in
    60 s. `passed` follows from the two and the lease's content alone.
    """

    TYPE: ClassVar[str] = "metering.storage-challenged.v1"
    node: str
    owner: str
    device: str
    lease: str
    challenge: str
    challenger: str
    passed: bool
    start_ms: int
    end_ms: int
    challenger_jws: str
    node_jws: str | None


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

    `embodied_milligrams`, the epoch's part of what making the node emitted, are in all three; left out where its owner
    states none, and then nothing of it is. `sci_milligrams` are `milligrams` per reference-GPU-hour scored, absent
    where nothing was: no average of rates is taken.
    """

    milligrams: str
    low_milligrams: str
    high_milligrams: str
    factor: str
    year: int
    method: str
    sci_milligrams: str | None = None
    embodied_milligrams: str | msgspec.UnsetType = msgspec.UNSET


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
    """At most 200 nodes (fewer when they would not fit) with their scores, sorted by node id; pages come first.

    A page holds nodes of one kind (left out: gpu), a node once per kind. Pages of GPUs come first, then cpu, storage
    and bandwidth; their numbers run through all of them.
    """

    TYPE: ClassVar[str] = "metering.epoch-paged.v1"
    epoch: int
    page: int
    nodes: tuple[NodeScore, ...]
    kind: DeviceKind | msgspec.UnsetType = msgspec.UNSET


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

    `pages` and `total_micro_rgpu_hours` span all pages of one `(epoch, scored_in, kind)`: they are paid together.
    `kind` left out is gpu. `held_again` are nodes of the page whose holdback was released but did not cover the devices
    that are late: what these earn is held back anew.
    """

    TYPE: ClassVar[str] = "metering.late-usage-scored.v1"
    epoch: int
    scored_in: int
    page: int
    pages: int
    total_micro_rgpu_hours: str
    nodes: tuple[NodeScore, ...]
    kind: DeviceKind | msgspec.UnsetType = msgspec.UNSET
    held_again: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class ConsumerReadingsWithheld(Fact, frozen=True):
    """What a lease did not earn on a device because its consumer withheld readings that are mandatory.

    `share_milli_ms` is counted share x ms, above 0, as of the epoch's close; the quota stays charged. Who lost it may
    dispute it. In stream `epoch/<n>`.
    """

    TYPE: ClassVar[str] = "metering.consumer-readings-withheld.v1"
    epoch: int
    node: str
    device: str
    lease: str
    share_milli_ms: str


class HoldbackReleased(Fact, frozen=True):
    """What was held back of these nodes' rewards for an epoch and kind was earned (METERING "Holdback").

    Seven later live epochs have closed, every device that earned in it has one passed challenge for it, and no open
    dispute names it. In stream `epoch/<n>`, at most 500 nodes, sorted.
    """

    TYPE: ClassVar[str] = "metering.holdback-released.v1"
    epoch: int
    kind: DeviceKind
    nodes: tuple[str, ...]


class HoldbackForfeited(Fact, frozen=True):
    """What was held back of these nodes' rewards for an epoch and kind goes to the community, for this cause."""

    TYPE: ClassVar[str] = "metering.holdback-forfeited.v1"
    epoch: int
    kind: DeviceKind
    nodes: tuple[str, ...]
    cause: Literal["failed-challenge", "upheld-dispute"]


class UsageDisputed(Fact, frozen=True):
    """Somebody disputes what a node did in these epochs; until it ends, none of its holdback is released.

    `by` is a steward, or owns a project that had a lease there; in stream `node/<id>`.
    """

    TYPE: ClassVar[str] = "metering.usage-disputed.v1"
    dispute: str
    node: str
    epochs: tuple[int, ...]
    by: str
    reason: str
    authorization: str


class DisputeEnded(Fact, frozen=True):
    """A steward who neither opened the dispute nor owns the node has ruled; `upheld` forfeits what is still held."""

    TYPE: ClassVar[str] = "metering.dispute-ended.v1"
    dispute: str
    node: str
    by: str
    ruling: Literal["upheld", "dismissed"]
    authorization: str


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
    StorageChallenged,
    OverCapacityDetected,
    ReliabilityChanged,
    EpochPaged,
    EpochClosed,
    LateUsageScored,
    ConsumerReadingsWithheld,
    HoldbackReleased,
    HoldbackForfeited,
    UsageDisputed,
    DisputeEnded,
)
