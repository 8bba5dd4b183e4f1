"""The directory: who exists, with which keys and roles, and which nodes there are. Folded from the registry's facts.

Each process keeps one; the registry itself decides from it. Refreshed before every group of decisions, so a key that
was rotated at position N signs nothing that is decided after N was seen.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from functools import singledispatch

from immutables import Map
from msgspec import UNSET

from events import registry
from events.catalog import Recorded
from events.envelope import Fact
from events.genesis import Community, PerformanceTable
from events.registry_terms import MemberKind, NodeStatus, PublicKey, Role, SuspensionCause, WorkClass


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key: whose it is, the hex SHA-256 of its secret, and when it ends."""

    key_id: str
    member: str
    secret_sha256: str
    label: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class Member:
    """A member and what it may do. `kid` names its living key: that of its Ed25519 key, else its wallet's address.

    `wallet` is the EIP-55 address of the wallet that signs for it, where there is one.
    """

    member: str
    handle: str
    kind: MemberKind
    kid: str
    guild: str | None
    roles: frozenset[Role]
    wallet: str | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the registry knows it now.

    `standing` is its status apart from suspensions; `suspensions` are those in force (see `suspension`); `passed`
    counts each device's passed challenges until the node is verified.
    """

    fact: registry.NodeRegistered
    kid: str
    status: NodeStatus
    window: registry.Window
    label: str
    suspensions: frozenset[str] = frozenset()
    standing: NodeStatus = "registered"
    passed: Map[str, int] = Map()

    @property
    def node(self) -> str:
        """The node's id."""
        return self.fact.node

    @property
    def owner(self) -> str:
        """The member that lends the node."""
        return self.fact.owner


@dataclass(frozen=True, slots=True)
class Key:
    """A living key: whose it is and its 32 raw Ed25519 bytes."""

    kid: str
    subject: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Directory:
    """All of it, as one immutable value. `position` is the registry position it reflects."""

    position: int = 0
    genesis_sha256: str = ""
    community: Community | None = None
    founded_us: int = 0
    members: Map[str, Member] = Map()
    handles: Map[str, str] = Map()
    keys: Map[str, Key] = Map()
    dead_keys: Map[str, str] = Map()
    wallets: Map[str, str] = Map()
    """Address of every living wallet to its member."""
    dead_wallets: Map[str, str] = Map()
    api_keys: Map[str, ApiKey] = Map()
    dead_api_keys: Map[str, str] = Map()
    nodes: Map[str, Node] = Map()
    devices: Map[str, frozenset[str]] = Map()
    """Device id to the nodes (not retired) that claim it; more than one is a dispute."""
    tables: Map[WorkClass, tuple[PerformanceTable, ...]] = Map()
    tables_effective_ms: Map[WorkClass, int] = Map()
    """From when each class's last table is in force."""
    erased: Map[str, int] = Map()
    """Members whose personal data was erased, with the position of that fact."""

    @property
    def origin(self) -> str:
        """The community's origin, the first part of every fact's `source`; empty before genesis."""
        return self.community.origin if self.community else ""

    def lives(self, kid: str) -> bool:
        """Tell whether a key (by its id) or a wallet (by its address) signs for somebody now."""
        return kid in self.keys or kid in self.wallets


def raw_key(key: PublicKey) -> bytes:
    """Return the 32 bytes of an RFC 8037 `x`; raises ValueError when they are not 32."""
    raw = base64.urlsafe_b64decode(key.x + "=" * (-len(key.x) % 4))
    if len(raw) != 32:  # noqa: PLR2004 - an Ed25519 public key
        raise ValueError("an Ed25519 public key has 32 bytes")
    return raw


def suspension(cause: SuspensionCause, device: str | None) -> str:
    """Return the name of one suspension of a node: its cause, and the device where one is in dispute."""
    return f"{cause} {device}" if device else cause


def evolve(directory: Directory, recorded: Recorded) -> Directory:
    """Fold one fact of the registry."""
    changed = _apply(recorded.fact, directory, recorded)
    return replace(changed, position=recorded.position)


@singledispatch
def _apply(_fact: Fact, directory: Directory, _recorded: Recorded) -> Directory:
    return directory


@_apply.register
def _(fact: registry.CommunityFounded, directory: Directory, recorded: Recorded) -> Directory:
    return replace(directory, community=fact.community, genesis_sha256=fact.sha256, founded_us=recorded.time_us)


@_apply.register
def _(fact: registry.MemberRegistered, directory: Directory, _recorded: Recorded) -> Directory:
    wallet = None if fact.wallet is UNSET else fact.wallet.address
    kid = fact.key.kid if fact.key else wallet
    assert kid is not None, fact.member
    member = Member(fact.member, fact.handle, fact.kind, kid, fact.guild, frozenset(), wallet)
    keys, wallets = directory.keys, directory.wallets
    return replace(
        directory,
        members=directory.members.set(fact.member, member),
        handles=directory.handles.set(fact.handle, fact.member),
        keys=keys.set(kid, Key(kid, fact.member, raw_key(fact.key))) if fact.key else keys,
        wallets=wallets.set(wallet, fact.member) if wallet else wallets,
    )


@_apply.register
def _(fact: registry.RoleGranted, directory: Directory, _recorded: Recorded) -> Directory:
    member = directory.members[fact.member]
    return replace(
        directory, members=directory.members.set(fact.member, replace(member, roles=member.roles | {fact.role}))
    )


@_apply.register
def _(fact: registry.RoleRevoked, directory: Directory, _recorded: Recorded) -> Directory:
    member = directory.members[fact.member]
    return replace(
        directory, members=directory.members.set(fact.member, replace(member, roles=member.roles - {fact.role}))
    )


@_apply.register
def _(fact: registry.KeyRotated, directory: Directory, _recorded: Recorded) -> Directory:
    directory = replace(
        directory,
        keys=directory.keys.delete(fact.old_kid).set(fact.key.kid, Key(fact.key.kid, fact.subject, raw_key(fact.key))),
        dead_keys=directory.dead_keys.set(fact.old_kid, fact.subject),
    )
    if fact.subject in directory.members:
        member = replace(directory.members[fact.subject], kid=fact.key.kid)
        return replace(directory, members=directory.members.set(fact.subject, member))
    return _change(directory, fact.subject, kid=fact.key.kid)


@_apply.register
def _(fact: registry.KeyLinked, directory: Directory, _recorded: Recorded) -> Directory:
    return replace(
        directory,
        keys=directory.keys.set(fact.key.kid, Key(fact.key.kid, fact.member, raw_key(fact.key))),
        members=directory.members.set(fact.member, replace(directory.members[fact.member], kid=fact.key.kid)),
    )


@_apply.register
def _(fact: registry.WalletLinked, directory: Directory, _recorded: Recorded) -> Directory:
    return _wallet(directory, fact.member, None, fact.wallet.address)


@_apply.register
def _(fact: registry.WalletRotated, directory: Directory, _recorded: Recorded) -> Directory:
    return _wallet(directory, fact.member, fact.old_address, fact.wallet.address)


@_apply.register
def _(fact: registry.WalletUnlinked, directory: Directory, _recorded: Recorded) -> Directory:
    return _wallet(directory, fact.member, fact.address, None)


@_apply.register
def _(fact: registry.ApiKeyIssued, directory: Directory, _recorded: Recorded) -> Directory:
    key = ApiKey(fact.key_id, fact.member, fact.secret_sha256, fact.label, fact.expires_ms)
    return replace(directory, api_keys=directory.api_keys.set(fact.key_id, key))


@_apply.register
def _(fact: registry.ApiKeyRevoked, directory: Directory, _recorded: Recorded) -> Directory:
    return replace(
        directory,
        api_keys=directory.api_keys.delete(fact.key_id),
        dead_api_keys=directory.dead_api_keys.set(fact.key_id, fact.member),
    )


@_apply.register
def _(fact: registry.NodeRegistered, directory: Directory, _recorded: Recorded) -> Directory:
    devices = directory.devices
    for device in fact.devices:
        devices = devices.set(device.device, devices.get(device.device, frozenset()) | {fact.node})
    node = Node(fact, fact.key.kid, "registered", fact.window, fact.label)
    return replace(
        directory,
        nodes=directory.nodes.set(fact.node, node),
        devices=devices,
        keys=directory.keys.set(fact.key.kid, Key(fact.key.kid, fact.node, raw_key(fact.key))),
    )


@_apply.register
def _(fact: registry.NodeVerified, directory: Directory, _recorded: Recorded) -> Directory:
    status = "suspended" if directory.nodes[fact.node].suspensions else "verified"
    return _change(directory, fact.node, status=status, standing="verified", passed=Map())


@_apply.register
def _(fact: registry.ChallengesNoted, directory: Directory, _recorded: Recorded) -> Directory:
    passed = directory.nodes[fact.node].passed
    for device, count in fact.passed.items():
        passed = passed.set(device, passed.get(device, 0) + count)
    return _change(directory, fact.node, passed=passed)


@_apply.register
def _(fact: registry.NodeActivated, directory: Directory, _recorded: Recorded) -> Directory:
    return _change(directory, fact.node, status="active", standing="active")


@_apply.register
def _(fact: registry.NodeSuspended, directory: Directory, _recorded: Recorded) -> Directory:
    suspensions = directory.nodes[fact.node].suspensions | {suspension(fact.cause, fact.device)}
    return _change(directory, fact.node, status="suspended", suspensions=suspensions)


@_apply.register
def _(fact: registry.NodeReinstated, directory: Directory, _recorded: Recorded) -> Directory:
    suspensions = directory.nodes[fact.node].suspensions - {suspension(fact.cause, fact.device)}
    return _change(directory, fact.node, status=fact.status, suspensions=suspensions)


@_apply.register
def _(fact: registry.NodeRetired, directory: Directory, _recorded: Recorded) -> Directory:
    node = directory.nodes[fact.node]
    devices = directory.devices
    for device in node.fact.devices:
        claims = devices.get(device.device, frozenset()) - {fact.node}
        devices = devices.set(device.device, claims) if claims else devices.delete(device.device)
    directory = replace(
        directory,
        devices=devices,
        keys=directory.keys.delete(node.kid),
        dead_keys=directory.dead_keys.set(node.kid, fact.node),
    )
    return _change(directory, fact.node, status="retired", standing="retired", suspensions=frozenset())


@_apply.register
def _(fact: registry.NodeWindowStated, directory: Directory, _recorded: Recorded) -> Directory:
    return _change(directory, fact.node, window=fact.window)


@_apply.register
def _(fact: registry.NodeLabelled, directory: Directory, _recorded: Recorded) -> Directory:
    return _change(directory, fact.node, label=fact.label)


@_apply.register
def _(fact: registry.PerformanceTableAdopted, directory: Directory, _recorded: Recorded) -> Directory:
    kind = fact.table.work_class
    return replace(
        directory,
        tables=directory.tables.set(kind, (*directory.tables.get(kind, ()), fact.table)),
        tables_effective_ms=directory.tables_effective_ms.set(kind, fact.effective_ms),
    )


@_apply.register
def _(fact: registry.SubjectErased, directory: Directory, recorded: Recorded) -> Directory:
    return replace(directory, erased=directory.erased.set(fact.member, recorded.position))


def _wallet(directory: Directory, member: str, old: str | None, new: str | None) -> Directory:
    """Let `new` sign for a member instead of `old`, which is dead from now on."""
    wallets, dead, known = directory.wallets, directory.dead_wallets, directory.members[member]
    if old is not None:
        wallets, dead = wallets.delete(old), dead.set(old, member)
    if new is not None:
        wallets = wallets.set(new, member)
    kid = new if new is not None and known.kid == old else known.kid
    members = directory.members.set(member, replace(known, wallet=new, kid=kid))
    return replace(directory, members=members, wallets=wallets, dead_wallets=dead)


def _change(directory: Directory, node: str, **fields: object) -> Directory:
    return replace(directory, nodes=directory.nodes.set(node, replace(directory.nodes[node], **fields)))  # type: ignore[arg-type]
