"""Answers queries: waits until a view is far enough, reads one moment of it, pages by cursor."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import msgspec
import pydantic

from events.channels import positions_by_service
from projections.routes import Answer, NotCaughtUp, NothingThere, Params, QueryContext
from projections.store import Select, Snapshot, ViewNotBuilt, ViewStore
from projections.view import Row, View

WAIT_SECONDS: Final = 5.0
"""How long a request with `Commons-At-Least` waits before it is told to come again."""
_FIRST_PAUSE_SECONDS: Final = 0.02
_LONGEST_PAUSE_SECONDS: Final = 0.2

Body = Callable[[Any], dict[str, Any]]
"""Turns a row into its JSON-able form. Amounts that may pass 2^53 become strings."""


Name = Annotated[str, pydantic.StringConstraints(max_length=300, pattern=r"^[^\x00]*$")]
"""A text to search by; the database takes no U+0000."""

Number = Annotated[int, pydantic.Field(ge=-(2**63), lt=2**63)]
"""A whole number of 64 bits, as columns hold them."""


class Listing(Params):
    """Parameters of every list."""

    limit: int = pydantic.Field(default=100, ge=1, le=1_000)
    cursor: str | None = pydantic.Field(default=None, max_length=2_000)


@dataclass(frozen=True, slots=True)
class Moment:
    """One moment of a view, and the positions it reflects by service."""

    snapshot: Snapshot
    positions: Mapping[str, int]


class ViewReader:
    """Reads views for queries."""

    def __init__(self, store: ViewStore, wait_seconds: float = WAIT_SECONDS) -> None:
        """Wait for `Commons-At-Least` at most `wait_seconds`."""
        self._store = store
        self._wait_seconds = wait_seconds

    @asynccontextmanager
    async def moment(self, view: View, context: QueryContext) -> AsyncIterator[Moment]:
        """Read one moment of `view` that reflects what the request asks for; raises NotCaughtUp."""
        waited = await self._catch_up(view, context.at_least)
        async with AsyncExitStack() as stack:
            snapshot = await self._open(stack, view, waited)
            found = positions_by_service(await snapshot.checkpoints(view))
            yield Moment(snapshot, {service: found.get(service, 0) for service in view.services})

    async def _open(self, stack: AsyncExitStack, view: View, waited: float) -> Snapshot:
        """Open a moment of the view, once it is built; raises NotCaughtUp."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                return await stack.enter_async_context(self._store.reading(view))
            except ViewNotBuilt as error:
                if waited >= self._wait_seconds:
                    raise NotCaughtUp(f"the view {view.name} (version {view.version}) is being built") from error
            await asyncio.sleep(pause)
            waited += pause
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _catch_up(self, view: View, at_least: Mapping[str, int]) -> float:
        """Wait for positions of the services this view follows; those of others cannot change its answer.

        Returns how many seconds it waited.
        """
        wanted = {service: position for service, position in at_least.items() if service in view.services}
        pause, waited = _FIRST_PAUSE_SECONDS, 0.0
        while wanted:
            found = positions_by_service(await self._store.checkpoints(view.follower))
            if all(found.get(service, 0) >= position for service, position in wanted.items()):
                break
            if waited >= self._wait_seconds:
                behind = ", ".join(f"{name} at {found.get(name, 0)} of {place}" for name, place in wanted.items())
                raise NotCaughtUp(f"the view {view.name} stands with {behind}")
            await asyncio.sleep(pause)
            waited += pause
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)
        return waited

    async def one(self, view: View, select: Select, context: QueryContext, body: Body) -> Answer:
        """Answer with the only row `select` finds; raises NothingThere."""
        async with self.moment(view, context) as moment:
            rows = await moment.snapshot.select(replace(select, limit=1))
        if not rows:
            raise NothingThere(f"{view.name} has no such row")
        return Answer(body(rows[0]), moment.positions)

    async def page(self, view: View, select: Select, listing: Listing, context: QueryContext, body: Body) -> Answer:
        """Answer with a page `{"items": [...], "next": cursor or None}` of the rows `select` finds."""
        order = select.sorted_by
        after = read_cursor(listing.cursor, select.table.row, order) if listing.cursor else None
        async with self.moment(view, context) as moment:
            rows = await moment.snapshot.select(replace(select, after=after, limit=listing.limit + 1))
        more = len(rows) > listing.limit
        rows = rows[: listing.limit]
        following = cursor_after(rows[-1], order) if more else None
        return Answer({"items": [body(row) for row in rows], "next": following}, moment.positions)


_TEXT: Final = pydantic.TypeAdapter(Name)
_NUMBER: Final = pydantic.TypeAdapter(Number)


def _column_value(value: Any, column_type: Any) -> Any:
    """Return a value out of a cursor; raises ValueError unless a column of that type could hold it."""
    adapter: pydantic.TypeAdapter[Any] = _NUMBER if column_type is int else _TEXT
    return adapter.validate_python(value, strict=True)


def cursor_after(row: Row, order: tuple[str, ...]) -> str:
    """Return the opaque text that names the place after `row`."""
    raw = msgspec.json.encode([getattr(row, column) for column in order])
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def read_cursor(text: str, row: type[Row], order: tuple[str, ...]) -> tuple[Any, ...]:
    """Return the place a cursor names. Raises NothingThere when it is not a cursor of this list."""
    types = {each.name: each.type for each in msgspec.structs.fields(row)}
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        values = msgspec.json.decode(raw, type=list[Any])
        return tuple(_column_value(value, types[column]) for value, column in zip(values, order, strict=True))
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise NothingThere("this is not a cursor of this list") from error
