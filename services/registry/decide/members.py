"""Members, their roles and their keys."""

from __future__ import annotations

from msgspec import UNSET

from events.registry import KeyRotated, MemberRegistered, RoleGranted, RoleRevoked
from events.registry_terms import Role
from events.values import is_slug, member_id
from services.kernel.decider import Context, Decision, Emit
from services.kernel.errors import InvalidField, PermissionDenied
from services.registry.commands import GrantRole, RegisterMember, RevokeRole, RotateKey
from services.registry.decide.guards import founded, known_member, permitted, standing_node
from services.registry.errors import HandleTaken, KeyNotLiving, LastOperator, RoleAlreadyHeld, RoleNotHeld
from services.registry.keys import fresh_key, fresh_wallet
from services.registry.state import Directory


def register_member(command: RegisterMember, state: Directory, context: Context) -> Decision:
    """Make a member known. Raises InvalidField, HandleTaken, KeyInUse."""
    founded(state)
    permitted(state, context, "members.register")
    if not is_slug(command.handle):
        raise InvalidField("a handle is 1 to 64 lower-case letters, digits, dots and dashes", field="handle")
    if command.guild is not None and not is_slug(command.guild):
        raise InvalidField("a guild is named like a handle", field="guild")
    if command.handle in state.handles:
        raise HandleTaken(f"the handle {command.handle!r} is taken", handle=command.handle)
    member = _first_key(command, state)
    assert member not in state.members, member
    fact = MemberRegistered(
        member,
        command.handle,
        command.kind,
        command.key,
        command.guild,
        context.actor,
        command.authorization,
        command.wallet or UNSET,
    )
    return Decision((Emit(member, fact),), {"member": member})


def _first_key(command: RegisterMember, state: Directory) -> str:
    """Return the id that follows from the one key or wallet a member starts with; raises InvalidField, KeyInUse."""
    if command.wallet is not None and command.key is None:
        return member_id(fresh_wallet(command.wallet.address, state))
    if command.key is not None and command.wallet is None:
        return member_id(fresh_key(command.key, state))
    raise InvalidField("a member starts with one key: either an Ed25519 key or a wallet", field="key")


def grant_role(command: GrantRole, state: Directory, context: Context) -> Decision:
    """Give a role. Raises UnknownMember, RoleAlreadyHeld, PermissionDenied."""
    _may_hand_out(state, context, command.role)
    member = known_member(state, command.member)
    if command.role in member.roles:
        raise RoleAlreadyHeld(f"{member.handle} is {command.role} already", member=member.member, role=command.role)
    fact = RoleGranted(member.member, command.role, command.authorization)
    return Decision((Emit(member.member, fact),), {"member": member.member, "role": command.role})


def revoke_role(command: RevokeRole, state: Directory, context: Context) -> Decision:
    """Take a role. Raises UnknownMember, RoleNotHeld, LastOperator, PermissionDenied."""
    _may_hand_out(state, context, command.role)
    member = known_member(state, command.member)
    if command.role not in member.roles:
        raise RoleNotHeld(f"{member.handle} is not {command.role}", member=member.member, role=command.role)
    if command.role == "operator" and sum("operator" in other.roles for other in state.members.values()) == 1:
        raise LastOperator("a community keeps at least one operator: grant another one first", member=member.member)
    fact = RoleRevoked(member.member, command.role, command.authorization)
    return Decision((Emit(member.member, fact),), {"member": member.member, "role": command.role})


def _may_hand_out(state: Directory, context: Context, role: Role) -> None:
    """Only an operator makes or unmakes operators, or a steward could raise itself above everyone."""
    permitted(state, context, "roles.grant")
    if role == "operator" and "operator" not in known_member(state, context.actor).roles:
        raise PermissionDenied("only an operator grants or revokes the role operator", permission="roles.grant")


def rotate_key(command: RotateKey, state: Directory, context: Context) -> Decision:
    """Replace the actor's own key. Raises UnknownMember, UnknownNode, KeyNotLiving, KeyInUse, InvalidField.

    A node whose key is lost is retired by its owner and registered anew: reliability follows device and owner.
    """
    subject = context.actor
    is_node = subject.startswith("node/")
    living = standing_node(state, subject).kid if is_node else known_member(state, subject).kid
    if living != command.old_kid or living not in state.keys:
        raise KeyNotLiving("the key that signed is not the living one", subject=subject, kid=command.old_kid)
    fresh_key(command.key, state)
    fact = KeyRotated(subject, command.old_kid, command.key, command.authorization, command.possession)
    return Decision((Emit(subject, fact),), {"subject": subject, "kid": command.key.kid})
