"""The genesis document: everything a community agrees on before its first fact (DESIGN 9).

`community.yaml` is read into these frozen structs, unknown fields refused; the first fact of a community carries the
document and its SHA-256. Amounts are decimal strings in base units; shares are parts per million and sum to exactly
1,000,000; times are RFC 3339 in UTC; spans are half-open milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from events.registry_terms import KINDS, DeviceKind, GpuClass, MemberKind, PublicKey, Role, SizeClass, WorkClass
from events.values import PPM


class GenesisRefused(ValueError):
    """A genesis document cannot found a community; `problems` lists every reason, each `path: sentence`."""

    def __init__(self, problems: Sequence[str]) -> None:
        """Keep the problems."""
        super().__init__("the genesis document is refused:\n" + "\n".join(f"  {problem}" for problem in problems))
        self.problems = tuple(problems)


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A section of the document; unknown fields are refused."""


class Founder(Part, frozen=True):
    """A member from the first fact on. `handle` is a public pseudonym, never a legal name."""

    handle: str
    kind: MemberKind
    key: PublicKey
    roles: tuple[Role, ...] = ()
    guild: str | None = None


class Board(Part, frozen=True):
    """The ethics board's seats, by handle."""

    seats: tuple[str, ...] = ()
    non_technical: tuple[str, ...] = ()


class Minimums(Part, frozen=True):
    """What a node must have to register (METERING's table are the defaults; the demo lowers them)."""

    gpu_memory_mib: int = 8_000_000_000 // 1_048_576
    gpu_hours_per_day: int = 4
    cpu_milli: int = 4_000
    memory_mib: int = 8_000_000_000 // 1_048_576
    storage_bytes: int = 100_000_000_000
    bandwidth_bits_per_second: int = 50_000_000


class Resources(Part, frozen=True):
    """The kinds of resource the community pools, and the least it takes of each."""

    offered: tuple[Literal["gpu", "cpu", "storage", "bandwidth"], ...] = ("gpu",)
    minimums: Minimums = Minimums()


class Vesting(Part, frozen=True):
    """Linear vesting with a cliff (TREASURY); seconds from the founding."""

    cliff_seconds: int = 31_536_000
    duration_seconds: int = 4 * 31_536_000


class Pool(Part, frozen=True):
    """One share of the initial distribution: to a pool account, or to a member by handle.

    A pool named `backfill-<name>` is the fund of the backfill of that name: it goes to the account `fund/<name>`,
    its amount is exactly that backfill's `fund`, and it has neither member nor vesting.
    """

    name: str
    share_ppm: int
    member: str | None = None
    vesting: Vesting | None = None


class Currency(Part, frozen=True):
    """The asset, its hard cap, what exists at the start and what is minted per epoch (base units)."""

    cap: str
    initial_supply: str
    emission_per_epoch: str
    distribution: tuple[Pool, ...]
    symbol: str = "COMPUTE"
    decimals: Literal[6] = 6


class Epochs(Part, frozen=True):
    """Settlement periods: number n covers [zero + n x seconds, zero + (n+1) x seconds)."""

    zero: str
    seconds: int = 86_400
    close_after_seconds: int = 172_800


class TableEntry(Part, frozen=True):
    """A device model's performance factor for one class of work, 4 decimals (1.0000 = one whole T4)."""

    model: str
    performance_factor: str


class PerformanceTable(Part, frozen=True):
    """A versioned governance document: reference throughput per benchmark and the cap per model.

    `reference` gives the throughput of the reference device, one entry per benchmark of the class's set.
    """

    work_class: WorkClass
    version: int
    reference_model: str
    reference: tuple[Benchmark, ...]
    entries: tuple[TableEntry, ...]


class Benchmark(Part, frozen=True):
    """One benchmark of a class's set and the reference device's throughput (decimal string, per second)."""

    name: str
    throughput: str


class Project(Part, frozen=True):
    """A consumer of the pool, with the quota genesis grants it (0 or left out: none); MB are 10^6 bytes."""

    slug: str
    owner: str
    size_class: SizeClass
    work_class: GpuClass = "infer"
    gpu_micro_rgpu_hours: str = "0"
    cpu_milli_core_hours: str = "0"
    storage_mb_hours: str | msgspec.UnsetType = msgspec.UNSET
    bandwidth_mb: str | msgspec.UnsetType = msgspec.UNSET


class BackfillSource(Part, frozen=True):
    """A file older history is taken from."""

    name: str
    sha256: str


class Backfill(Part, frozen=True):
    """Permission to record older history (METERING "Backfill"): nodes, span, sources and a fund of its own.

    The nodes are named by the SHA-256 over their sorted ids, one per line with a line feed after each; the ids
    themselves follow in pages. `fund` is what the backfill may pay in all, `pool_per_epoch` what one epoch may.
    """

    name: str
    start: str
    end: str
    node_count: int
    nodes_sha256: str
    sources: tuple[BackfillSource, ...]
    fund: str
    pool_per_epoch: str


class CarbonFactor(Part, frozen=True):
    """What a kilowatt-hour of a grid zone emits: grams of CO2 equivalent, with the range the source gives.

    `id` names the source's figure, `year` what year it is for, `method` how it was made (average, marginal ...).
    """

    zone: str
    id: str
    year: int
    method: str
    grams_per_kwh: int
    low: int
    high: int


class SubPool(Part, frozen=True):
    """What one kind of resource shares out: its part of an epoch's pool, and its rate cap.

    `rate_cap` is in base units per unit-hour of the kind at performance factor 1: a reference GPU-hour, core-hour,
    GB-hour, or hour of 1 MB/s.
    """

    kind: DeviceKind
    share_ppm: int
    rate_cap: str


class MeteringRules(Part, frozen=True):
    """Parameters of METERING, versioned as governance documents afterwards.

    What came after the first communities were founded is left out of their documents, so their bytes stay theirs.
    """

    challenge_first: bool = True
    rate_cap_per_rgpu_hour: str = "1000000000"
    late_reserve_ppm: int = 20_000
    late_reserve_days: int = 35
    availability_trials: bool = False
    """False until nodes send heartbeats: then A counts for nothing and R = min(C, V)."""
    consumer_readings_from: str | None = None
    maintenance_hours_per_30_days: int | msgspec.UnsetType = msgspec.UNSET
    """How many announced hours of a node in any 30 days are no trials of its availability; see `maintenance_hours`."""
    carbon_factors: tuple[CarbonFactor, ...] | msgspec.UnsetType = msgspec.UNSET
    """One per grid zone. Where there are any, a node of another zone cannot register: no world average is taken."""
    holdback_ppm: int | msgspec.UnsetType = msgspec.UNSET
    """How much of every reward waits until what earned it passed a challenge (METERING "Holdback"); unset: nothing."""
    sub_pools: tuple[SubPool, ...] | msgspec.UnsetType = msgspec.UNSET
    """What of an epoch's pool each kind of resource shares out; see `sub_pools_of`."""


class Limits(Part, frozen=True):
    """Rate limits of the HTTP edge, per actor."""

    commands_per_minute: int = 6_000
    bytes_per_minute: int = 1_000_000_000
    queries_per_minute: int = 6_000


class Chain(Part, frozen=True):
    """The chain whose wallets sign here: what every EIP-712 signature and every sign-in is bound to.

    `contract` is the verifying contract, in EIP-55 spelling; the zero address until the community has one.
    """

    chain_id: int = 31_337
    contract: str = "0x0000000000000000000000000000000000000000"


class Community(Part, frozen=True):
    """The whole document. `chain` is left out where the defaults of `Chain` hold, and then out of the hash too."""

    format: Literal["commons.genesis/1"]
    name: str
    origin: str
    members: tuple[Founder, ...]
    currency: Currency
    epochs: Epochs
    performance_tables: tuple[PerformanceTable, ...]
    board: Board = Board()
    resources: Resources = Resources()
    metering: MeteringRules = MeteringRules()
    limits: Limits = Limits()
    projects: tuple[Project, ...] = ()
    backfills: tuple[Backfill, ...] = ()
    public_views: bool = True
    log_keys: tuple[PublicKey, ...] = ()
    service_keys: tuple[PublicKey, ...] = ()
    chain: Chain | msgspec.UnsetType = msgspec.UNSET


MAINTENANCE_HOURS: Final = 8
"""Announced hours of a node in any 30 days that are no trials, where the document names none."""


def maintenance_hours(rules: MeteringRules) -> int:
    """Return how many announced hours of a node in any 30 days are no trials of its availability."""
    found = rules.maintenance_hours_per_30_days
    return MAINTENANCE_HOURS if isinstance(found, msgspec.UnsetType) else found


def sub_pools_of(rules: MeteringRules) -> tuple[SubPool, ...]:
    """Return the sub-pools; where the document names none, GPUs have the whole."""
    return rules.sub_pools or (SubPool("gpu", PPM, rules.rate_cap_per_rgpu_hour),)


def scored_kinds(rules: MeteringRules) -> tuple[DeviceKind, ...]:
    """Return the kinds that have a sub-pool, in the order of `KINDS`; the others are recorded and shown, not scored."""
    pooled = {pool.kind for pool in sub_pools_of(rules)}
    return tuple(kind for kind in KINDS if kind in pooled)


def chain_of(community: Community) -> Chain:
    """Return the chain a community's wallets sign for."""
    return Chain() if community.chain is msgspec.UNSET else community.chain
