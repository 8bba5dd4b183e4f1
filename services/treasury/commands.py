"""Commands of the treasury. Amounts inside postings are decimal strings of base units, as they will be recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from events.genesis import Community
from events.registry_terms import DeviceKind
from events.treasury import GateAnswer, Posting, ScoredNode
from services.kernel.decider import Command


@dataclass(frozen=True, slots=True)
class AdoptGenesis(Command):
    """Define the book and mint the initial distribution, from the founding fact."""

    community: Community
    founded_ms: int


@dataclass(frozen=True, slots=True)
class OpenMemberAccount(Command):
    """Open a member's own account, whose id is the member's; nothing when it is open."""

    member: str


@dataclass(frozen=True, slots=True)
class OpenAccount(Command):
    """Open the caller's account `<member>/<slug>`."""

    slug: str


@dataclass(frozen=True, slots=True)
class CloseAccount(Command):
    """Close one of the caller's named accounts, at zero."""

    account: str
    authorization: str


@dataclass(frozen=True, slots=True)
class PostTransaction(Command):
    """Move amounts between accounts: 1..100 postings, all or none, each checked on what the ones before it left."""

    postings: tuple[Posting, ...]
    authorization: str
    memo: str = ""
    effective_ms: int | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class BurnSupply(Command):
    """Let units of one of the caller's accounts cease to exist."""

    account: str
    amount: str
    authorization: str


@dataclass(frozen=True, slots=True)
class NoteEpochScores(Command):
    """Keep a page of an epoch's scores of one kind until the epoch is settled."""

    epoch: int
    page: int
    page_fact: str
    scores: tuple[ScoredNode, ...]
    kind: DeviceKind = "gpu"


@dataclass(frozen=True, slots=True)
class SettleEpoch(Command):
    """Fund a closed epoch's pool and pay it out, exactly, all its kinds in one decision.

    `micro_rgpu_hours` is the closing fact's total of GPUs, `others` names those of the other kinds.
    """

    epoch: int
    pages: int
    micro_rgpu_hours: str
    backfill: str | None
    closed_fact: str
    gate: GateAnswer
    others: tuple[tuple[DeviceKind, str], ...] = ()


@dataclass(frozen=True, slots=True)
class PayLateUsage(Command):
    """Keep a page of late scores; with the last page pay all of them from their epoch's late reserve.

    `pages` and `total_micro_rgpu_hours` are the late fact's: over all pages of one `(epoch, scored_in)` and kind.
    `held_again` are nodes whose late usage is held back though their holdback was released.
    """

    epoch: int
    scored_in: int
    page: int
    pages: int
    total_micro_rgpu_hours: str
    late_fact: str
    scores: tuple[ScoredNode, ...]
    gate: GateAnswer
    kind: DeviceKind = "gpu"
    held_again: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReleaseLateReserve(Command):
    """Return what is left of an epoch's late reserve to the emission reserve, once its days are over."""

    epoch: int
    kind: DeviceKind = "gpu"


@dataclass(frozen=True, slots=True)
class ReleaseHoldback(Command):
    """Pay what is held of nodes' rewards to their owners; `released_fact` is metering's."""

    epoch: int
    kind: DeviceKind
    nodes: tuple[str, ...]
    released_fact: str
    gate: GateAnswer


@dataclass(frozen=True, slots=True)
class ForfeitHoldback(Command):
    """Give what is held of nodes' rewards to the community; `forfeited_fact` is metering's."""

    epoch: int
    kind: DeviceKind
    nodes: tuple[str, ...]
    forfeited_fact: str
