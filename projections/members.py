"""Who belongs to the community: members with their roles and the name of their living key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from events import registry
from events.catalog import Recorded
from projections.queries import Listing, Name, ViewReader
from projections.routes import Answer, Params, QueryContext, QueryRoute
from projections.store import Select
from projections.view import Change, Row, Table, View, change, json_text, put


class Member(Row):
    """A member. `roles` is a JSON array of names, sorted; everything else is None until it has registered."""

    member: str
    handle: str | None = None
    kind: str | None = None
    guild: str | None = None
    kid: str | None = None
    wallet: str | None = None
    roles: str = "[]"
    registered_ms: int | None = None


MEMBERS: Final = Table("members", Member, ("member",), indexes=(("handle", "member"),))


def _grant(row: Member, role: str) -> None:
    row.roles = json_text(sorted({*msgspec.json.decode(row.roles), role}))


def _revoke(row: Member, role: str) -> None:
    row.roles = json_text(sorted({*msgspec.json.decode(row.roles)} - {role}))


def _registered(fact: registry.MemberRegistered, recorded: Recorded) -> Iterable[Change]:
    fields = {
        "handle": fact.handle,
        "kind": fact.kind,
        "guild": fact.guild,
        "kid": fact.key.kid if fact.key else None,
        "wallet": None if fact.wallet is msgspec.UNSET else fact.wallet.address,
        "registered_ms": recorded.time_ms,
    }
    yield change(MEMBERS, fact.member, put, fields)


def _granted(fact: registry.RoleGranted, _recorded: Recorded) -> Iterable[Change]:
    yield change(MEMBERS, fact.member, _grant, fact.role)


def _revoked(fact: registry.RoleRevoked, _recorded: Recorded) -> Iterable[Change]:
    yield change(MEMBERS, fact.member, _revoke, fact.role)


def _rotated(fact: registry.KeyRotated, _recorded: Recorded) -> Iterable[Change]:
    if fact.subject.startswith("member/"):
        yield change(MEMBERS, fact.subject, put, {"kid": fact.key.kid})


def _keyed(fact: registry.KeyLinked, _recorded: Recorded) -> Iterable[Change]:
    yield change(MEMBERS, fact.member, put, {"kid": fact.key.kid})


def _linked(fact: registry.WalletLinked | registry.WalletRotated, _recorded: Recorded) -> Iterable[Change]:
    yield change(MEMBERS, fact.member, put, {"wallet": fact.wallet.address})


def _unlinked(fact: registry.WalletUnlinked, _recorded: Recorded) -> Iterable[Change]:
    yield change(MEMBERS, fact.member, put, {"wallet": None})


VIEW: Final = View(
    name="members",
    version=2,
    services=("registry",),
    tables=(MEMBERS,),
    handlers={
        registry.MemberRegistered: _registered,
        registry.RoleGranted: _granted,
        registry.RoleRevoked: _revoked,
        registry.KeyRotated: _rotated,
        registry.KeyLinked: _keyed,
        registry.WalletLinked: _linked,
        registry.WalletRotated: _linked,
        registry.WalletUnlinked: _unlinked,
    },
)


class Members(Listing):
    """All members, or the one of a handle."""

    handle: Name | None = None


class OneMember(Params):
    """One member by id."""

    member: Name


def routes(reader: ViewReader) -> tuple[QueryRoute, ...]:
    """Return the queries: the list and one member."""

    async def listed(params: Members, context: QueryContext) -> Answer:
        where: tuple[Any, ...] = () if params.handle is None else (("handle", "=", params.handle),)
        return await reader.page(VIEW, Select(MEMBERS, where), params, context, body)

    async def one(params: OneMember, context: QueryContext) -> Answer:
        return await reader.one(VIEW, Select(MEMBERS, (("member", "=", params.member),)), context, body)

    path = "/v1/views/members"
    return (
        QueryRoute("members.list", path, "views.read", Members, listed, "Members"),
        QueryRoute("members.one", f"{path}/{{member:path}}", "views.read", OneMember, one, "One member"),
    )


def body(row: Member) -> dict[str, Any]:
    """Return a member as the API shows it."""
    return {
        "member": row.member,
        "handle": row.handle,
        "kind": row.kind,
        "guild": row.guild,
        "kid": row.kid,
        "wallet": row.wallet,
        "roles": msgspec.json.decode(row.roles),
        "registered_ms": row.registered_ms,
    }
