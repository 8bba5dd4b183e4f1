"""Guards the rules share: who asks, and which member or node is meant."""

from __future__ import annotations

from typing import Final

from events.genesis import Community
from services.kernel.decider import Context
from services.kernel.errors import InvalidField, PermissionDenied
from services.kernel.roles import Permission, permits
from services.registry.errors import NodeIsRetired, NotFounded, NotTheOwner, UnknownMember, UnknownNode
from services.registry.state import Directory, Member, Node

LABEL_CHARACTERS: Final = 80


def permitted(state: Directory, context: Context, permission: Permission) -> None:
    """Raise PermissionDenied unless the actor has the permission now: under the lock a revoked role is revoked."""
    if not permits(state, context.actor, permission):
        raise PermissionDenied(f"{context.actor} may not do this: it needs {permission}", permission=permission)


def founded(state: Directory) -> Community:
    """Return the community; raises NotFounded."""
    if state.community is None:
        raise NotFounded("no community is founded here yet: run 'commons genesis FILE' first")
    return state.community


def known_member(state: Directory, member: str) -> Member:
    """Return the member; raises UnknownMember."""
    found = state.members.get(member)
    if found is None:
        raise UnknownMember(f"there is no member {member[:80]!r}", member=member)
    return found


def standing_node(state: Directory, node: str) -> Node:
    """Return a node that has not retired; raises UnknownNode, NodeIsRetired."""
    found = state.nodes.get(node)
    if found is None:
        raise UnknownNode(f"there is no node {node[:80]!r}", node=node)
    if found.standing == "retired":
        raise NodeIsRetired("a retired node never comes back: register a new one with a new key", node=node)
    return found


def owned_node(state: Directory, node: str, context: Context) -> Node:
    """Return the actor's own node; raises UnknownNode, NodeIsRetired, NotTheOwner."""
    found = standing_node(state, node)
    if found.owner != context.actor:
        raise NotTheOwner("only the owner of a node may do this", node=node, owner=found.owner)
    return found


def plain_text(text: str, field: str, limit: int = LABEL_CHARACTERS, least: int = 0) -> str:
    """Return `text`; raises InvalidField unless it is printable and its length lies in least..limit."""
    if not least <= len(text) <= limit or not text.isprintable():
        raise InvalidField(f"{field} must be {least} to {limit} printable characters", field=field)
    return text
