"""Commands of the treasury. Amounts inside postings are decimal strings of base units, as they will be recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from events.genesis import Community
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
    """Keep a page of an epoch's scores until the epoch is settled."""

    epoch: int
    page: int
    page_fact: str
    scores: tuple[ScoredNode, ...]


@dataclass(frozen=True, slots=True)
class SettleEpoch(Command):
    """Fund a closed epoch's pool and pay it out, exactly. `micro_rgpu_hours` is the closing fact's total."""

    epoch: int
    pages: int
    micro_rgpu_hours: str
    backfill: str | None
    closed_fact: str
    gate: GateAnswer


@dataclass(frozen=True, slots=True)
class PayLateUsage(Command):
    """Keep a page of late scores; with the last page pay all of them from their epoch's late reserve.

    `pages` and `total_micro_rgpu_hours` are the late fact's: over all pages of one `(epoch, scored_in)`.
    """

    epoch: int
    scored_in: int
    page: int
    pages: int
    total_micro_rgpu_hours: str
    late_fact: str
    scores: tuple[ScoredNode, ...]
    gate: GateAnswer


@dataclass(frozen=True, slots=True)
class ReleaseLateReserve(Command):
    """Return what is left of an epoch's late reserve to the emission reserve, once its days are over."""

    epoch: int
