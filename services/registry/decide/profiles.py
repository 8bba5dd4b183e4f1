"""Personal data: sealed profiles, and their erasure. Nothing here sees a plain text."""

from __future__ import annotations

from events.registry import ProfileSealed, SubjectErased
from services.kernel.decider import Context, Decision, Emit
from services.kernel.errors import InvalidField, SubjectIsErased
from services.registry.commands import EraseSubject, SealProfile
from services.registry.decide.guards import known_member
from services.registry.errors import NotTheSubject
from services.registry.state import Directory


def seal_profile(command: SealProfile, state: Directory, context: Context) -> Decision:
    """Replace the actor's profile. Raises UnknownMember, SubjectIsErased, InvalidField."""
    member = known_member(state, context.actor)
    _not_erased(state, member.member)
    if not command.sealed:
        raise InvalidField("a profile has at least one field; to end it, erase it", field="sealed")
    fact = ProfileSealed(member.member, dict(sorted(command.sealed.items())), command.authorization)
    return Decision((Emit(member.member, fact),), {"member": member.member, "fields": list(fact.sealed)})


def erase_subject(command: EraseSubject, state: Directory, context: Context) -> Decision:
    """Erase a member's personal data. Raises UnknownMember, NotTheSubject, SubjectIsErased.

    The key is destroyed by the follower of the fact, again and again until it is done.
    """
    member = known_member(state, command.member)
    if command.ruling is None and (context.actor != member.member or command.authorization is None):
        raise NotTheSubject("only you erase your data, or a ruling does", member=member.member)
    _not_erased(state, member.member)
    fact = SubjectErased(member.member, command.authorization, command.ruling)
    return Decision((Emit(member.member, fact),), {"member": member.member})


def _not_erased(state: Directory, member: str) -> None:
    if member in state.erased:
        raise SubjectIsErased("this member's personal data was erased, for ever", member=member)
