"""Facts of the treasury: the book of one asset, in stream `book/<SYMBOL>`.

Every movement of value is a list of postings `(debit account, credit account, amount)`: the debit account pays, the
credit account receives, amounts are decimal strings of base units above zero. Minting and burning are movements
from and to outside, so they have no debit or no credit account.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from events.envelope import Fact
from events.genesis import SubPool
from events.registry_terms import DeviceKind

AccountKind = Literal["member", "escrow", "pool", "treasury", "vesting", "bridge", "external"]
GateAnswer = Literal["ungated", "anchored"]


class Posting(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """One movement inside a transaction, `[debit, credit, amount]` on the wire."""

    debit: str
    credit: str
    amount: str


class ScoredNode(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A node's score in an epoch, `[node, owner, micro_rgpu_hours]`."""

    node: str
    owner: str
    micro_rgpu_hours: str


class NodeReward(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A part of a node's reward and whose it is, `[node, owner, amount]`; base units, as decimal text."""

    node: str
    owner: str
    amount: str


class VestingSchedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What of `total` an account may pay out and when: nothing before the cliff, all from the end on, linear between.

    Milliseconds UTC for the start, whole seconds from it for cliff and duration (TREASURY "Vesting").
    """

    total: str
    start_ms: int
    cliff_seconds: int
    duration_seconds: int


class AssetDefined(Fact, frozen=True):
    """The book's asset; `cap` bounds everything that is ever minted and not burned.

    `sub_pools` divide every epoch's pool by kind of resource; left out, GPUs have the whole. `holdback_ppm` of every
    reward of a live epoch waits on the epoch's holdback account; left out, nothing does.
    """

    TYPE: ClassVar[str] = "treasury.asset-defined.v1"
    symbol: str
    decimals: Literal[6]
    cap: str
    emission_per_epoch: str
    late_reserve_ppm: int
    late_reserve_days: int
    rate_cap_per_rgpu_hour: str
    sub_pools: tuple[SubPool, ...] | msgspec.UnsetType = msgspec.UNSET
    holdback_ppm: int | msgspec.UnsetType = msgspec.UNSET


class AccountOpened(Fact, frozen=True):
    """An account exists. It never goes negative unless flagged; `vesting` binds what it may pay out and when."""

    TYPE: ClassVar[str] = "treasury.account-opened.v1"
    account: str
    owner: str
    kind: AccountKind
    may_go_negative: bool = False
    vesting: VestingSchedule | None = None


class AccountClosed(Fact, frozen=True):
    """An account at zero takes part in nothing any more; its id is never used again.

    `authorization` is the owner's JWS; absent when a rule closed it (an epoch's own account, a released reserve).
    """

    TYPE: ClassVar[str] = "treasury.account-closed.v1"
    account: str
    authorization: str | None = None


class SupplyMinted(Fact, frozen=True):
    """New units came into being on an account. `reason` is `genesis` or `emission`."""

    TYPE: ClassVar[str] = "treasury.supply-minted.v1"
    account: str
    amount: str
    reason: Literal["genesis", "emission"]
    epoch: int | None = None


class SupplyBurned(Fact, frozen=True):
    """Units of an account ceased to exist."""

    TYPE: ClassVar[str] = "treasury.supply-burned.v1"
    account: str
    amount: str
    authorization: str


class TransactionPosted(Fact, frozen=True):
    """1..100 postings, all or none. Effective dates only label reports."""

    TYPE: ClassVar[str] = "treasury.transaction-posted.v1"
    transaction: str
    postings: tuple[Posting, ...]
    memo: str = ""
    effective_ms: int | None = None
    metadata: dict[str, str] | None = None
    authorization: str | None = None
    hold: str | None = None


class FundOpened(Fact, frozen=True):
    """A backfill's own fund: what account holds it and what it may pay per epoch. Never fed from a live pool."""

    TYPE: ClassVar[str] = "treasury.fund-opened.v1"
    backfill: str
    account: str
    pool_per_epoch: str


class EpochScoresNoted(Fact, frozen=True):
    """The treasury has taken note of a page of an epoch's scores; `page_fact` is the metering fact it repeats.

    `kind` here and below is the kind of resource, left out for GPUs.
    """

    TYPE: ClassVar[str] = "treasury.epoch-scores-noted.v1"
    epoch: int
    page: int
    page_fact: str
    scores: tuple[ScoredNode, ...]
    kind: DeviceKind | msgspec.UnsetType = msgspec.UNSET


class EpochPoolFunded(Fact, frozen=True):
    """The epoch's pool of a kind stands on the account of epoch and kind.

    A backfill's fund paid it by these postings; a live epoch's was minted there by the `SupplyMinted` before this
    fact, so it has no postings. `pool` is the whole of it either way.
    """

    TYPE: ClassVar[str] = "treasury.epoch-pool-funded.v1"
    epoch: int
    postings: tuple[Posting, ...]
    pool: str
    kind: DeviceKind | msgspec.UnsetType = msgspec.UNSET


class RewardsPaid(Fact, frozen=True):
    """A page of an epoch's payouts; `nodes[i]` is paid `postings[i]`.

    `held` is what of their rewards waits on `holdback/<epoch>`, by node; one posting after those of `nodes` brings its
    sum there. A node whose whole reward is held stands in `held` only.
    """

    TYPE: ClassVar[str] = "treasury.rewards-paid.v1"
    epoch: int
    page: int
    nodes: tuple[str, ...]
    postings: tuple[Posting, ...]
    kind: DeviceKind | msgspec.UnsetType = msgspec.UNSET
    held: tuple[NodeReward, ...] | msgspec.UnsetType = msgspec.UNSET


class EpochSettled(Fact, frozen=True):
    """An epoch's pool of a kind is accounted for exactly: paid + late_reserve + kept = pool, and its account is 0.

    `rate_*` is the final rate (base units per micro reference-GPU-hour, an exact fraction) late usage earns at most.
    `gate` says whether the cause lay under a finalised anchor when it was paid. `paid` includes what is held back;
    `holdback_ppm` is how much of every reward that is, left out where nothing is.
    """

    TYPE: ClassVar[str] = "treasury.epoch-settled.v1"
    epoch: int
    closed_fact: str
    pool: str
    paid: str
    late_reserve: str
    kept: str
    rate_numerator: str
    rate_denominator: str
    gate: GateAnswer
    postings: tuple[Posting, ...]
    kind: DeviceKind | msgspec.UnsetType = msgspec.UNSET
    holdback_ppm: int | msgspec.UnsetType = msgspec.UNSET


class LateScoresNoted(Fact, frozen=True):
    """The treasury has taken note of a page of late scores of a settled epoch; with the last of `pages` it pays them.

    `page_fact` is the metering fact it repeats, `scored_in` the epoch whose close scored it. `held_again` are nodes
    whose released holdback did not cover what is late, so that it is held back anew.
    """

    TYPE: ClassVar[str] = "treasury.late-scores-noted.v1"
    epoch: int
    scored_in: int
    page: int
    pages: int
    page_fact: str
    scores: tuple[ScoredNode, ...]
    kind: DeviceKind | msgspec.UnsetType = msgspec.UNSET
    held_again: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET


class LateRewardsPaid(Fact, frozen=True):
    """Late usage of an already settled epoch, paid from its late reserve, rounded down.

    It earns at most its epoch's final rate, and its owner in all at most what being in time would have paid.
    `nodes[i]` earned `postings[i]`; at most 100 of them, so one late fact may come to several of these. `late_fact`
    is the page that completed the late scores. After these, one posting brings the sum of `held` to
    `holdback/<epoch>`, and one that of `forfeited` to `treasury/forfeits`, where the holdback went already.
    """

    TYPE: ClassVar[str] = "treasury.late-rewards-paid.v1"
    epoch: int
    late_fact: str
    nodes: tuple[str, ...]
    postings: tuple[Posting, ...]
    gate: GateAnswer
    kind: DeviceKind | msgspec.UnsetType = msgspec.UNSET
    held: tuple[NodeReward, ...] | msgspec.UnsetType = msgspec.UNSET
    forfeited: tuple[NodeReward, ...] | msgspec.UnsetType = msgspec.UNSET


class LateReserveReleased(Fact, frozen=True):
    """What was left of an epoch's late reserve after its days returned to the emission reserve."""

    TYPE: ClassVar[str] = "treasury.late-reserve-released.v1"
    epoch: int
    postings: tuple[Posting, ...]
    kind: DeviceKind | msgspec.UnsetType = msgspec.UNSET


class HoldbackPaid(Fact, frozen=True):
    """What was held of these nodes' rewards goes to their owners; `released_fact` is metering's fact that says so.

    `postings[i]` pays `rewards[i]`. `nodes` are all it names, also those of which nothing is held: what of theirs comes
    late is paid whole from now on.
    """

    TYPE: ClassVar[str] = "treasury.holdback-paid.v1"
    epoch: int
    kind: DeviceKind
    released_fact: str
    nodes: tuple[str, ...]
    rewards: tuple[NodeReward, ...]
    postings: tuple[Posting, ...]
    gate: GateAnswer


class HoldbackForfeitBooked(Fact, frozen=True):
    """What was held of these nodes' rewards went to the community; `forfeited_fact` is metering's fact that says so.

    One posting brings the sum of `rewards` to `treasury/forfeits`. What of these nodes' rewards comes late and would
    be held goes there too from now on.
    """

    TYPE: ClassVar[str] = "treasury.holdback-forfeit-booked.v1"
    epoch: int
    kind: DeviceKind
    forfeited_fact: str
    nodes: tuple[str, ...]
    rewards: tuple[NodeReward, ...]
    postings: tuple[Posting, ...]


FACTS: tuple[type[Fact], ...] = (
    AssetDefined,
    AccountOpened,
    AccountClosed,
    SupplyMinted,
    SupplyBurned,
    TransactionPosted,
    FundOpened,
    EpochScoresNoted,
    EpochPoolFunded,
    RewardsPaid,
    EpochSettled,
    LateScoresNoted,
    LateRewardsPaid,
    LateReserveReleased,
    HoldbackPaid,
    HoldbackForfeitBooked,
)
