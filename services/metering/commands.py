"""What metering can be asked to do. Times are milliseconds UTC, half-open; shares milli of one device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from events.genesis import Community, PerformanceTable
from events.metering import ChallengeResult, Content
from events.registry_terms import DeviceKind
from services.kernel.decider import Command


@dataclass(frozen=True, slots=True)
class AdoptGenesis(Command):
    """Take over what the genesis document says about metering."""

    community: Community
    founded_ms: int


@dataclass(frozen=True, slots=True)
class AdoptTable(Command):
    """Put a performance table of the registry in force."""

    table: PerformanceTable
    sha256: str
    effective_ms: int


@dataclass(frozen=True, slots=True)
class NameBackfillNodes(Command):
    """Name a page of a backfill's nodes: at most 1,000 sorted ids, pages in order from 0."""

    backfill: str
    page: int
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CloseBackfill(Command):
    """End a backfill: its history is complete."""

    backfill: str


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """What a consumer asks for. `lease` is an id of its choice (32 hex); `share` is a level of the kind.

    `devices` is 0 but for GPUs; `models`, when given, are the GPUs it accepts; `renews` an earlier lease of the same
    project; `content` is what storage shall hold, of which there are `share` MB.
    """

    lease: str
    kind: DeviceKind
    devices: int
    share: int
    start_ms: int
    end_ms: int
    models: tuple[str, ...] = ()
    renews: str | None = None
    content: Content | None = None


@dataclass(frozen=True, slots=True)
class OpenLeases(Command):
    """Open 1..50 leases of one project, all or none; the system places them. `authorization` is the owner's JWS."""

    project: str
    leases: tuple[LeaseTerms, ...]
    authorization: str


@dataclass(frozen=True, slots=True)
class CancelLease(Command):
    """End a lease now; what was not used of its charge returns to the quota."""

    lease: str
    authorization: str


@dataclass(frozen=True, slots=True)
class AdoptNode(Command):
    """Take over a node's owner, devices and window as the registry knows them, from the next full hour on."""

    node: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class AnnounceMaintenance(Command):
    """Announce hours of one's node that shall be no trials of its availability."""

    node: str
    first_hour: int
    hours: int
    authorization: str


@dataclass(frozen=True, slots=True)
class RecordHeartbeatHour(Command):
    """Record an hour of the calling node: the minutes it signed, those it was answered for, and its spool's hash."""

    node: str
    hour: int
    signed_minutes: int
    answered_minutes: int
    spool_sha256: str
    jws: str


@dataclass(frozen=True, slots=True)
class RecordReadings(Command):
    """Record one signed batch. Its signature was checked at the edge; its id is the SHA-256 of its payload."""

    jws: str


@dataclass(frozen=True, slots=True)
class RecordConsumerReadings(Command):
    """Record the consumer's side: one batch signed by a project's owner, checked at the edge."""

    jws: str


@dataclass(frozen=True, slots=True)
class RecordChallengeResults(Command):
    """Record 1..50 results of one node; both JWS sign the same payload and were checked at the edge."""

    node: str
    results: tuple[ChallengeResult, ...]
    challenger_jws: str
    node_jws: str | None


@dataclass(frozen=True, slots=True)
class RecordStorageChallenge(Command):
    """Record one challenge of a storage lease; both JWS were checked at the edge. `node_jws` None: no answer came."""

    challenger_jws: str
    node_jws: str | None


@dataclass(frozen=True, slots=True)
class CloseEpoch(Command):
    """Close an epoch: score every node from exactly the facts recorded so far."""

    epoch: int


@dataclass(frozen=True, slots=True)
class ReleaseHoldback(Command):
    """Release what an epoch's nodes have earned of their holdback."""

    epoch: int


@dataclass(frozen=True, slots=True)
class ForfeitHoldback(Command):
    """Forfeit what an epoch's nodes have lost of their holdback."""

    epoch: int


@dataclass(frozen=True, slots=True)
class DisputeUsage(Command):
    """Dispute what a node did in epochs: until a steward rules, none of its holdback for them is released."""

    node: str
    epochs: tuple[int, ...]
    reason: str
    authorization: str


@dataclass(frozen=True, slots=True)
class EndDispute(Command):
    """Rule on a dispute; upheld, what is still held is forfeited."""

    dispute: str
    ruling: Literal["upheld", "dismissed"]
    authorization: str
