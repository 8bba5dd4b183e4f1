"""Facts of the registry: the community, its members, keys and roles, nodes and devices, performance tables.

Streams: `community`, `member/<id>`, `node/<id>`, `table/<class>`. Where a fact grants a role, changes a key or lowers
someone's rights it carries `authorization`, the actor's own signature over the command (DESIGN 8): a compact JWS, or
the canonical JSON of EIP-712 typed data with the wallet's `signature` beside it.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec

from events.envelope import Fact
from events.genesis import Community, PerformanceTable
from events.registry_terms import (
    DeviceKind,
    MemberKind,
    NodeStatus,
    ProfileField,
    PublicKey,
    Role,
    SuspensionCause,
    Wallet,
)


class CommunityFounded(Fact, frozen=True):
    """The first fact: the genesis document and its SHA-256 (hex) over the file's canonical JSON."""

    TYPE: ClassVar[str] = "registry.community-founded.v1"
    community: Community
    sha256: str


class MemberRegistered(Fact, frozen=True):
    """A member exists. `registered_by` is None for founders.

    Its first key is either `key` or, for people who only have a wallet, `wallet`; the member's id follows from it.
    """

    TYPE: ClassVar[str] = "registry.member-registered.v1"
    member: str
    handle: str
    kind: MemberKind
    key: PublicKey | None
    guild: str | None = None
    registered_by: str | None = None
    authorization: str | None = None
    wallet: Wallet | msgspec.UnsetType = msgspec.UNSET


class RoleGranted(Fact, frozen=True):
    """A member holds a role from now on."""

    TYPE: ClassVar[str] = "registry.role-granted.v1"
    member: str
    role: Role
    authorization: str | None = None


class RoleRevoked(Fact, frozen=True):
    """A member holds a role no longer."""

    TYPE: ClassVar[str] = "registry.role-revoked.v1"
    member: str
    role: Role
    authorization: str


class KeyRotated(Fact, frozen=True):
    """The subject (a member or a node) signs with a new key; the old one is dead from this position on.

    `authorization` is the old key's JWS over the command. `possession` is the new key's JWS over exactly
    {"possession":<new kid>,"replaces":<old kid>,"subject":<subject>,"genesis":<hex>}, so a key nobody holds is no key.
    """

    TYPE: ClassVar[str] = "registry.key-rotated.v1"
    subject: str
    old_kid: str
    key: PublicKey
    authorization: str
    possession: str


class KeyLinked(Fact, frozen=True):
    """An Ed25519 key signs for a member who had only a wallet, from now on and beside it.

    `authorization` is the wallet's signature over the command. `possession` is the key's JWS over the statement of
    `KeyRotated`, with an empty text in `replaces`: nothing dies.
    """

    TYPE: ClassVar[str] = "registry.key-linked.v1"
    member: str
    key: PublicKey
    authorization: str
    possession: str


class WalletLinked(Fact, frozen=True):
    """A wallet signs for the member from now on; `authorization` is the member's own by its present key."""

    TYPE: ClassVar[str] = "registry.wallet-linked.v1"
    member: str
    wallet: Wallet
    authorization: str


class WalletRotated(Fact, frozen=True):
    """Another wallet takes the old one's place; the old one signed `authorization` and is dead from here on."""

    TYPE: ClassVar[str] = "registry.wallet-rotated.v1"
    member: str
    old_address: str
    wallet: Wallet
    authorization: str


class WalletUnlinked(Fact, frozen=True):
    """A wallet signs for nobody any more; the member's other key remains."""

    TYPE: ClassVar[str] = "registry.wallet-unlinked.v1"
    member: str
    address: str
    authorization: str


class ApiKeyIssued(Fact, frozen=True):
    """An API key that reads, and commands only what moves nothing. `secret_sha256` is the hex hash of its secret."""

    TYPE: ClassVar[str] = "registry.api-key-issued.v1"
    member: str
    key_id: str
    secret_sha256: str
    label: str
    expires_ms: int


class ApiKeyRevoked(Fact, frozen=True):
    """An API key works no longer."""

    TYPE: ClassVar[str] = "registry.api-key-revoked.v1"
    member: str
    key_id: str


class ProfileSealed(Fact, frozen=True):
    """What a member says of itself as a person, each field sealed under the member's key (see `events.sealing`).

    It replaces the profile before it, whole. `authorization` is the member's own signature, over the sealed texts.
    """

    TYPE: ClassVar[str] = "registry.profile-sealed.v1"
    member: str
    sealed: dict[ProfileField, str]
    authorization: str


class SubjectErased(Fact, frozen=True):
    """The member's personal data is erased: its key is destroyed, what was sealed with it opens never again.

    `authorization` is the member's own signature, or `ruling` the id of the fact that ordered it.
    """

    TYPE: ClassVar[str] = "registry.subject-erased.v1"
    member: str
    authorization: str | None = None
    ruling: str | None = None


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device of a node. `device` is `device/<32 hex>`, the keyed hash of the hardware UUID.

    `capacity` is in the kind's unit: milli shares (gpu: 1000), milli-cores, bytes, bits per second.
    """

    device: str
    kind: DeviceKind
    model: str
    capacity: int
    memory_mib: int = 0


class Window(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The stated availability: whole hours of the day, UTC, half-open; 0..24 is always. May wrap over midnight."""

    from_hour: int = 0
    to_hour: int = 24


class Embodied(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What making a machine emitted, as its owner states it: grams of CO2 equivalent, spread over `lifetime_hours`.

    `source` names where the figure stands, such as a datasheet.
    """

    grams_co2e: int
    lifetime_hours: int
    source: str


class NodeRegistered(Fact, frozen=True):
    """A node joined the pool; `authorization` is the owner's JWS over the command."""

    TYPE: ClassVar[str] = "registry.node-registered.v1"
    node: str
    owner: str
    key: PublicKey
    zone: str
    devices: tuple[Device, ...]
    cpu_milli: int
    memory_mib: int
    window: Window
    security_baseline: int
    no_sensitive_data: Literal[True]
    authorization: str
    storage_bytes: int = 0
    bandwidth_bits_per_second: int = 0
    pue_milli: int | None = None
    label: str = ""
    embodied: Embodied | msgspec.UnsetType = msgspec.UNSET


class NodeVerified(Fact, frozen=True):
    """The node passed its first challenges; `evidence` is the id of the fact that shows it."""

    TYPE: ClassVar[str] = "registry.node-verified.v1"
    node: str
    evidence: str


class ChallengesNoted(Fact, frozen=True):
    """How many more challenges each device of a node not yet verified has passed; `evidence` is metering's fact."""

    TYPE: ClassVar[str] = "registry.challenges-noted.v1"
    node: str
    passed: dict[str, int]
    evidence: str


class NodeActivated(Fact, frozen=True):
    """The node may receive leases."""

    TYPE: ClassVar[str] = "registry.node-activated.v1"
    node: str


class NodeSuspended(Fact, frozen=True):
    """The node receives no leases until it is reinstated. `cause` names the rule, `device` the claim in dispute."""

    TYPE: ClassVar[str] = "registry.node-suspended.v1"
    node: str
    cause: SuspensionCause
    device: str | None = None
    authorization: str | None = None


class NodeReinstated(Fact, frozen=True):
    """One suspension ended; `evidence` holds the signed answers or the JWS of whoever ended it.

    `cause` and `device` name the suspension; `status` is what the node is from now on (`suspended` while others last).
    """

    TYPE: ClassVar[str] = "registry.node-reinstated.v1"
    node: str
    evidence: tuple[str, ...]
    cause: SuspensionCause
    status: NodeStatus
    device: str | None = None


class NodeRetired(Fact, frozen=True):
    """The node left for good; its devices may be claimed again."""

    TYPE: ClassVar[str] = "registry.node-retired.v1"
    node: str
    authorization: str


class NodeWindowStated(Fact, frozen=True):
    """The node's stated availability window from now on."""

    TYPE: ClassVar[str] = "registry.node-window-stated.v1"
    node: str
    window: Window
    authorization: str


class NodeLabelled(Fact, frozen=True):
    """A public label of the node changed; moves nothing."""

    TYPE: ClassVar[str] = "registry.node-labelled.v1"
    node: str
    label: str


class PerformanceTableAdopted(Fact, frozen=True):
    """A performance table is in force from `effective_ms` on; `sha256` is over its canonical JSON."""

    TYPE: ClassVar[str] = "registry.performance-table-adopted.v1"
    table: PerformanceTable
    sha256: str
    effective_ms: int
    authorization: str | None = None


FACTS: tuple[type[Fact], ...] = (
    CommunityFounded,
    MemberRegistered,
    RoleGranted,
    RoleRevoked,
    KeyRotated,
    KeyLinked,
    WalletLinked,
    WalletRotated,
    WalletUnlinked,
    ApiKeyIssued,
    ApiKeyRevoked,
    ProfileSealed,
    SubjectErased,
    NodeRegistered,
    NodeVerified,
    ChallengesNoted,
    NodeActivated,
    NodeSuspended,
    NodeReinstated,
    NodeRetired,
    NodeWindowStated,
    NodeLabelled,
    PerformanceTableAdopted,
)
