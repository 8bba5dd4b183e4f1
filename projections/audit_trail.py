"""Everything that ever happened, fact by fact: who did what when, and the hash of its record."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, Final

import msgspec
import pydantic
from eventsourcing.persistence import Notification

from events.envelope import time_text, time_us
from projections.queries import Listing, Name, ViewReader
from projections.routes import Answer, NothingThere, Params, QueryContext, QueryRoute
from projections.store import Select
from projections.view import Change, Row, Table, View, append

RecordReader = Callable[[str, int], Awaitable[bytes | None]]
"""Returns the bytes of the record at (service, position), or None when there is none."""


class Entry(Row):
    """One fact; `time_us` is recorded time, `record_sha256` the hash of the bytes that are stored and published."""

    service: str
    position: int
    time_us: int
    stream: str
    version: int
    type: str
    id: str
    actor: str | None
    command_id: str | None
    causation_id: str | None
    correlation_id: str | None
    record_sha256: bytes


_BY_TIME: Final = ("time_us", "service", "position")
ENTRIES: Final = Table(
    "entries",
    Entry,
    ("service", "position"),
    append_only=True,
    indexes=(_BY_TIME, ("actor", *_BY_TIME), ("stream", *_BY_TIME), ("type", *_BY_TIME)),
)


class _Header(msgspec.Struct):
    """What a record's envelope says; its data is skipped unread."""

    id: str
    time: str
    actor: str | None = None
    commandid: str | None = None
    causationid: str | None = None
    correlationid: str | None = None


_HEADER: Final = msgspec.json.Decoder(_Header)


def _listed(record: Notification) -> Iterable[Change]:
    header = _HEADER.decode(record.state)
    entry = Entry(
        record.topic.partition(".")[0],
        record.id,
        time_us(header.time),
        str(record.originator_id),
        record.originator_version,
        record.topic,
        header.id,
        header.actor,
        header.commandid,
        header.causationid,
        header.correlationid,
        hashlib.sha256(record.state).digest(),
    )
    return (append(ENTRIES, entry),)


VIEW: Final = View(
    name="audit_trail",
    version=1,
    services=("registry", "metering", "treasury"),
    tables=(ENTRIES,),
    handlers={},
    every=_listed,
)


class Search(Listing):
    """Entries by actor, stream, service and type, recorded in [since, until), oldest or newest first."""

    actor: Name | None = None
    stream: Name | None = None
    service: Name | None = None
    type: Name | None = None
    since: pydantic.AwareDatetime | None = None
    until: pydantic.AwareDatetime | None = None
    newest_first: bool = False


class OneEntry(Params):
    """One fact by service and position."""

    service: Name
    position: Annotated[int, pydantic.Field(ge=1, lt=2**63)]


def routes(reader: ViewReader, records: RecordReader) -> tuple[QueryRoute, ...]:
    """Return the queries: the search, and one entry with its record as stored."""

    async def search(params: Search, context: QueryContext) -> Answer:
        select = Select(ENTRIES, conditions(params), order=_BY_TIME, descending=params.newest_first)
        return await reader.page(VIEW, select, params, context, body)

    async def one(params: OneEntry, context: QueryContext) -> Answer:
        where: Any = (("service", "=", params.service), ("position", "=", params.position))
        async with reader.moment(VIEW, context) as moment:
            rows = await moment.snapshot.select(Select(ENTRIES, where))
        record = await records(params.service, params.position) if rows else None
        if record is None:
            raise NothingThere(f"no fact at position {params.position} of {params.service}")
        # The text is the record byte for byte, so that whoever reads it can hash it.
        intact = hashlib.sha256(record).digest() == rows[0].record_sha256
        return Answer(body(rows[0]) | {"record": record.decode(), "intact": intact}, moment.positions)

    path = "/v1/views/audit_trail"
    return (
        QueryRoute("audit_trail.search", path, "views.read", Search, search, "Search all facts"),
        QueryRoute("audit_trail.one", f"{path}/{{service}}/{{position}}", "views.read", OneEntry, one, "One fact"),
    )


def conditions(params: Search) -> Any:
    """Return what the parameters ask for; `since` is included, `until` is not."""
    equal = {"actor": params.actor, "stream": params.stream, "service": params.service, "type": params.type}
    found: list[tuple[str, str, Any]] = [(name, "=", value) for name, value in equal.items() if value is not None]
    if params.since is not None:
        found.append(("time_us", ">=", time_us(params.since.isoformat())))
    if params.until is not None:
        found.append(("time_us", "<", time_us(params.until.isoformat())))
    return tuple(found)


def body(row: Entry) -> dict[str, Any]:
    """Return an entry as the API shows it."""
    shown: dict[str, Any] = msgspec.structs.asdict(row)
    shown["time"] = time_text(shown.pop("time_us"))
    shown["position"] = str(row.position)
    return shown | {"record_sha256": row.record_sha256.hex()}
