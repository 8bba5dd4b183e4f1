"""Folds pages of records into rows: decode what a view handles, collect its changes, apply them to rows at hand."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec
from eventsourcing.persistence import Notification

from events.catalog import Catalog, Recorded, Upcast, UpgradeNeeded
from events.envelope import Fact, time_us
from projections.store import Writer
from projections.view import Change, Row, Table, View

Outcome = tuple[Change, ...] | Exception
"""What a record changes, or what its fold raised."""


class Poisoned(Exception):
    """A record whose fold raised; `__cause__` is what it raised."""

    def __init__(self, view: str, service: str, position: int) -> None:
        """Keep which record it was."""
        super().__init__(f"view {view} cannot fold position {position} of {service}")
        self.view = view
        self.service = service
        self.position = position


class FactReader:
    """Decodes the facts of some types in one pass over the record; the rest of the envelope is skipped.

    `Catalog.decode` reads the envelope first and the data after, and keeps every attribute; at 200,000 facts a
    second the second pass and the unused texts are half of the cost.
    """

    def __init__(self, catalog: Catalog, types: Iterable[type[Fact]]) -> None:
        """Read `types`, and retired types as what they mean today."""
        names = {fact.TYPE for fact in types} | set(catalog.upcasts)
        self._known = frozenset(catalog.facts)
        self._plans: dict[str, tuple[Callable[[bytes], Any], str, Upcast | None]] = {
            name: (
                msgspec.json.Decoder(_lean(catalog.facts[name])).decode,
                name.partition(".")[0],
                catalog.upcasts.get(name),
            )
            for name in names
        }
        self._time: tuple[str, int] = ("", 0)

    def read(self, record: Notification) -> Recorded | None:
        """Return the fact, or None when its type is not among those to read.

        Raises UpgradeNeeded for a type nobody knows, msgspec.ValidationError for bytes that do not fit.
        """
        plan = self._plans.get(record.topic)
        if plan is None:
            self.check(record)
            return None
        decode, service, upcast = plan
        lean = decode(record.state)
        text, micros = self._time
        if lean.time != text:
            micros = time_us(lean.time)
            self._time = (lean.time, micros)
        fact = lean.data if upcast is None else upcast(lean.data)
        stream: Any = record.originator_id
        return Recorded(service, record.id, stream, record.originator_version, micros, lean.id, lean.actor, fact)

    def check(self, record: Notification) -> None:
        """Raise UpgradeNeeded when the record's type is not one this software knows."""
        if record.topic not in self._known:
            raise UpgradeNeeded(record.topic)


def _lean(fact: type[Fact]) -> type[msgspec.Struct]:
    fields: list[Any] = [("id", str), ("time", str), ("data", fact), ("actor", str | None, None)]
    return msgspec.defstruct(f"{fact.__name__}Record", fields, frozen=True)


class Folder:
    """The fold of one view over pages."""

    def __init__(self, view: View, catalog: Catalog) -> None:
        """Prepare to read what the view handles."""
        self.view = view
        self._reader = FactReader(catalog, view.handlers)

    def fold(self, workspace: Workspace, service: str, records: Sequence[Notification]) -> None:
        """Fold a page whose rows are all at hand. Raises Poisoned and UpgradeNeeded; then the rows are void.

        Fact by fact, so that what one fact needs is gone before the next: kept for a page, the objects wake Python's
        collector again and again, which costs a third of a rebuild.
        """
        read, handlers, every = self._reader.read, self.view.handlers, self.view.every
        index = 0
        try:
            for index, record in enumerate(records):  # noqa: B007 - the index of a poisonous record
                recorded = read(record)
                if every is not None:
                    workspace.apply(every(record))
                if recorded is not None:
                    handler = handlers.get(type(recorded.fact))
                    if handler is not None:
                        workspace.apply(handler(recorded.fact, recorded))
        except UpgradeNeeded:
            raise
        except Exception as error:
            raise Poisoned(self.view.name, service, records[index].id) from error

    def gather(self, records: Sequence[Notification]) -> tuple[list[Outcome], UpgradeNeeded | None]:
        """Return what each record changes, or what its fold raised; cut before a type nobody knows, with the error."""
        found: list[Outcome] = []
        for record in records:
            try:
                found.append(tuple(self._changes(record)))
            except UpgradeNeeded as unknown:
                return found, unknown
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this record's
                found.append(error)
        return found, None

    def _changes(self, record: Notification) -> Iterable[Change]:
        recorded = self._reader.read(record)
        if self.view.every is not None:
            yield from self.view.every(record)
        if recorded is not None:
            handler = self.view.handlers.get(type(recorded.fact))
            if handler is not None:
                yield from handler(recorded.fact, recorded)


class Workspace:
    """Rows at hand while pages are folded, and which of them have to be written.

    `complete`: what is not at hand does not exist (a rebuild that has written nothing yet), so nothing is fetched.
    """

    def __init__(self, view: View, *, complete: bool = False) -> None:
        """Begin with no row."""
        self.complete = complete
        self._tables = view.tables
        self._rows: dict[Table, dict[Any, Row]] = {table: {} for table in view.tables}
        self._changed: dict[Table, dict[Any, Row]] = {table: {} for table in view.tables}
        self._added: dict[Table, list[Row]] = {table: [] for table in view.tables}

    @property
    def at_hand(self) -> int:
        """How many rows are kept to be changed."""
        return sum(map(len, self._rows.values()))

    @property
    def added(self) -> int:
        """How many rows of append-only tables wait to be written."""
        return sum(map(len, self._added.values()))

    def apply(self, changes: Iterable[Change]) -> None:
        """Let the changes happen to the rows at hand; what they touch will be written."""
        changed_rows = self._changed
        for table, key, update, arguments in changes:
            if key is None:
                self._added[table].append(arguments[0])
                continue
            changed = changed_rows[table]
            row = changed.get(key)
            if row is None:
                rows = self._rows[table]
                row = rows.get(key)
                if row is None:
                    row = rows[key] = table.new_row(key)
                changed[key] = row
            update(row, *arguments)

    def apply_whole(self, changes: Sequence[Change]) -> None:
        """Let all of the changes happen, or none: when one raises, the rows are as they were."""
        named = {(table, key) for table, key, _, _ in changes if key is not None}
        before = [
            (table, key, copy.copy(self._rows[table].get(key)), key in self._changed[table]) for table, key in named
        ]
        added = {table: len(rows) for table, rows in self._added.items()}
        try:
            self.apply(changes)
        except Exception:
            for table, key, row, changed in before:
                for rows, there in ((self._rows[table], row is not None), (self._changed[table], changed)):
                    if there:
                        rows[key] = row  # type: ignore[assignment] # a changed row was there
                    else:
                        rows.pop(key, None)
            for table, length in added.items():
                del self._added[table][length:]
            raise

    async def fetch(self, writer: Writer, outcomes: Iterable[Outcome]) -> None:
        """Fetch the rows that the changes name and that are not at hand, table by table. Raises RowsRefused."""
        if self.complete:
            return
        missing: dict[Table, set[Any]] = {}
        for of_one in outcomes:
            for table, key, _update, _arguments in of_one if isinstance(of_one, tuple) else ():
                if key is not None and key not in self._rows[table]:
                    missing.setdefault(table, set()).add(key)
        for table, keys in missing.items():
            rows = self._rows[table]
            for row in await writer.fetch(table, keys):
                rows[table.key_of(row)] = row

    async def write(self, writer: Writer) -> None:
        """Write what changed and what was added."""
        for table in self._tables:
            rows = self._added[table] or list(self._changed[table].values())
            if rows:
                await writer.write(table, rows)

    def written(self) -> None:
        """Forget what had to be written: the writer has committed."""
        for table in self._tables:
            self._changed[table].clear()
            self._added[table].clear()

    def forget(self) -> None:
        """Let go of all rows; those that come back are fetched."""
        self.written()
        for rows in self._rows.values():
            rows.clear()
        self.complete = False


MAX_ROWS: Final = 150_000
"""Rows a rebuild keeps at hand before it writes all and lets go; about 100 MB of the largest kind."""
MAX_ADDED: Final = 20_000
"""Rows of append-only tables a rebuild collects before it writes them."""
