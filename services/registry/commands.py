"""What may be asked of the registry. Whoever asks stands in the context; signatures were checked at the edge.

`authorization` is the asking member's own compact JWS over the command and goes into the fact as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from events.genesis import Community, PerformanceTable
from events.registry import Device, Embodied, Window
from events.registry_terms import MemberKind, ProfileField, PublicKey, Role, Wallet
from services.kernel.decider import Command


@dataclass(frozen=True, slots=True)
class FoundCommunity(Command):
    """Turn the genesis document into the first facts. Asked by the command line only, as `operator/genesis`."""

    community: Community


@dataclass(frozen=True, slots=True)
class RegisterMember(Command):
    """Make a member known, with its first key or its wallet, and no role. Possession was checked at the edge."""

    handle: str
    kind: MemberKind
    key: PublicKey | None
    guild: str | None
    authorization: str
    wallet: Wallet | None = None


@dataclass(frozen=True, slots=True)
class GrantRole(Command):
    """Give a member a role."""

    member: str
    role: Role
    authorization: str


@dataclass(frozen=True, slots=True)
class RevokeRole(Command):
    """Take a role from a member."""

    member: str
    role: Role
    authorization: str


@dataclass(frozen=True, slots=True)
class RotateKey(Command):
    """Replace the asking member's or node's key. `possession` is the new key's JWS, checked at the edge."""

    old_kid: str
    key: PublicKey
    authorization: str
    possession: str


@dataclass(frozen=True, slots=True)
class LinkKey(Command):
    """Let a first Ed25519 key sign for the asking member beside its wallet. `possession` was checked at the edge."""

    key: PublicKey
    authorization: str
    possession: str


@dataclass(frozen=True, slots=True)
class LinkWallet(Command):
    """Let a wallet sign for the asking member beside its key. The wallet's possession was checked at the edge."""

    wallet: Wallet
    authorization: str


@dataclass(frozen=True, slots=True)
class RotateWallet(Command):
    """Let another wallet take the place of the one that signed this, `old_address`."""

    old_address: str
    wallet: Wallet
    authorization: str


@dataclass(frozen=True, slots=True)
class UnlinkWallet(Command):
    """Let the asking member's wallet sign no longer."""

    address: str
    authorization: str


@dataclass(frozen=True, slots=True)
class IssueApiKey(Command):
    """Let the asking member use an API key. Only the hash of its secret ever reaches us."""

    key_id: str
    secret_sha256: str
    label: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class RevokeApiKey(Command):
    """End one of the asking member's API keys."""

    key_id: str


@dataclass(frozen=True, slots=True)
class SealProfile(Command):
    """Replace the asking member's profile; the fields were sealed and found to open at the edge."""

    sealed: Mapping[ProfileField, str]
    authorization: str


@dataclass(frozen=True, slots=True)
class EraseSubject(Command):
    """Erase a member's personal data for ever: by its own signature, or by a ruling (the id of that fact)."""

    member: str
    authorization: str | None
    ruling: str | None = None


@dataclass(frozen=True, slots=True)
class RegisterNode(Command):
    """Lend a node; the asking member is its owner. Units as in the fact `NodeRegistered`."""

    key: PublicKey
    zone: str
    devices: tuple[Device, ...]
    cpu_milli: int
    memory_mib: int
    window: Window
    security_baseline: int
    no_sensitive_data: bool
    authorization: str
    storage_bytes: int = 0
    bandwidth_bits_per_second: int = 0
    pue_milli: int | None = None
    label: str = ""
    embodied: Embodied | None = None


@dataclass(frozen=True, slots=True)
class NoteChallenges(Command):
    """Count challenges that a node's devices have passed: `(device, how many)`; `evidence` is metering's fact id."""

    node: str
    passed: tuple[tuple[str, int], ...]
    evidence: str


@dataclass(frozen=True, slots=True)
class SuspendNode(Command):
    """Take a node out of placement: an owner pauses it (`owner`), a steward stops it (the other causes)."""

    node: str
    cause: Literal["failed-challenges", "steward", "owner"]
    authorization: str


@dataclass(frozen=True, slots=True)
class ReinstateNode(Command):
    """End a suspension; who may is who could have begun it."""

    node: str
    cause: Literal["failed-challenges", "steward", "owner"]
    authorization: str


@dataclass(frozen=True, slots=True)
class Answer:
    """A node's signed answer to the challenge that settles a dispute; `jws` is the answer as signed."""

    node: str
    device: str
    challenge: str
    answered_at_ms: int
    digest: str
    jws: str


@dataclass(frozen=True, slots=True)
class ReinstateNodes(Command):
    """End the dispute over a device: all who claim it answered one challenge in one second."""

    device: str
    answers: tuple[Answer, ...]
    authorization: str


@dataclass(frozen=True, slots=True)
class RetireNode(Command):
    """Take a node away for good; its devices may be claimed again."""

    node: str
    authorization: str


@dataclass(frozen=True, slots=True)
class StateWindow(Command):
    """State another availability window."""

    node: str
    window: Window
    authorization: str


@dataclass(frozen=True, slots=True)
class LabelNode(Command):
    """Change a node's public label; moves nothing."""

    node: str
    label: str


@dataclass(frozen=True, slots=True)
class AdoptPerformanceTable(Command):
    """Put a table's next version in force from `effective_ms` on (None: now)."""

    table: PerformanceTable
    effective_ms: int | None
    authorization: str
