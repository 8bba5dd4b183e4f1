"""What members say of themselves as persons. Rows keep sealed bytes; they are opened on read, for those who may."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

import msgspec

from events import registry
from events.catalog import Recorded
from projections.queries import Name, ViewReader
from projections.routes import Answer, NothingThere, Params, QueryContext, QueryRoute
from projections.store import Select
from projections.view import Change, Row, Table, View, change, json_text, put


class Opener(Protocol):
    """Opens sealed fields for a reader, if it may."""

    async def open(self, actor: str | None, member: str, sealed: Mapping[str, str]) -> Mapping[str, str] | None:
        """Return the plain texts, None when the key is gone; raises what the edge answers when `actor` may not."""
        ...


class Profile(Row):
    """A member's profile: a JSON object of sealed texts, empty once erased. Times in milliseconds UTC."""

    member: str
    sealed: str = "{}"
    sealed_ms: int | None = None
    erased_ms: int | None = None


PROFILES: Final = Table("profiles", Profile, ("member",))


def _sealed(fact: registry.ProfileSealed, recorded: Recorded) -> Iterable[Change]:
    yield change(PROFILES, fact.member, put, {"sealed": json_text(fact.sealed), "sealed_ms": recorded.time_ms})


def _erased(fact: registry.SubjectErased, recorded: Recorded) -> Iterable[Change]:
    yield change(PROFILES, fact.member, put, {"sealed": "{}", "erased_ms": recorded.time_ms})


VIEW: Final = View(
    name="profiles",
    version=1,
    services=("registry",),
    tables=(PROFILES,),
    handlers={registry.ProfileSealed: _sealed, registry.SubjectErased: _erased},
)


class OneProfile(Params):
    """Whose profile."""

    member: Name


def routes(reader: ViewReader, opener: Opener) -> tuple[QueryRoute, ...]:
    """Return the only query: one profile. There is no list of people."""

    async def one(params: OneProfile, context: QueryContext) -> Answer:
        await opener.open(context.actor, params.member, {})  # who may not read hears nothing, not even "not found"
        async with reader.moment(VIEW, context) as moment:
            rows = await moment.snapshot.select(Select(PROFILES, (("member", "=", params.member),), limit=1))
        if not rows:
            raise NothingThere("this member has no profile")
        row: Profile = rows[0]
        fields = await opener.open(context.actor, row.member, msgspec.json.decode(row.sealed))
        return Answer(body(row, fields), moment.positions)

    summary = "One member's profile, for the member and stewards"
    path = "/v1/views/profiles/{member:path}"
    return (QueryRoute("profiles.one", path, "profiles.read", OneProfile, one, summary, api_key=False),)


def body(row: Profile, fields: Mapping[str, str] | None) -> dict[str, Any]:
    """Return a profile as the API shows it: `fields` are None once the key is destroyed or lost."""
    erased = row.erased_ms is not None
    return {
        "member": row.member,
        "status": "erased" if erased else "sealed" if fields is None else "open",
        "fields": None if erased else fields,
        "sealed_ms": row.sealed_ms,
        "erased_ms": row.erased_ms,
    }
