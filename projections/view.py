"""What a view is: tables of typed rows, and a pure fold from recorded facts to changes of rows.

A fold never sees a table. It names rows by key and hands over small functions that bring them up to date; the runner
collects the changes of a whole page, fetches the rows they name at once, applies them in order and writes each row
once. So the fold of one fact costs no I/O, live and rebuild run the same code, and the result depends on the order
within one stream only (facts of other streams may come in between, or earlier, or later).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from eventsourcing.persistence import Notification

from events.catalog import Recorded
from events.envelope import Fact


class Row(msgspec.Struct, gc=False):
    """A row of a view's table: its fields are the columns, key first, the others with what a new row begins with.

    Columns are `str`, `int` (64 bits), `bool` or `bytes`, or one of them or None. `gc=False`: rows hold no cycles, and
    a rebuild keeps hundreds of thousands of them, which Python's collector would walk again and again.
    """


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table of a view. `key` are the first fields of `row`; `indexes` are further column lists to search by.

    Rows of an `append_only` table are written once and never changed, so they are never fetched either.
    """

    name: str
    row: type[Row]
    key: tuple[str, ...]
    append_only: bool = False
    indexes: tuple[tuple[str, ...], ...] = ()
    columns: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Read the columns off the row's fields."""
        columns = tuple(each.name for each in msgspec.structs.fields(self.row))
        assert columns[: len(self.key)] == self.key, f"the key of {self.name} comes first"
        object.__setattr__(self, "columns", columns)

    def new_row(self, key: Any) -> Row:
        """Return the row as it is before its first change; `key` is a tuple when the key has several columns."""
        return self.row(key) if len(self.key) == 1 else self.row(*key)

    def key_of(self, row: Row) -> Any:
        """Return the key of a row, as changes name it."""
        if len(self.key) == 1:
            return getattr(row, self.key[0])
        return tuple(getattr(row, name) for name in self.key)


Change = tuple[Table, Any, Callable[..., None], tuple[Any, ...]]
"""`(table, key, update, arguments)`: `update(row, *arguments)` changes that row in place. See `change`."""

Handler = Callable[[Any, Recorded], Iterable[Change]]
"""`handler(fact, recorded)` names the changes one fact of its type makes; pure, and total over facts ever written."""

Listener = Callable[[Notification], Iterable[Change]]
"""`listener(record)` names the changes of any record, whatever its type, without decoding its data."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A question, as tables and the fold that keeps them. A changed fold or table is a new `version`.

    `handlers` fold the facts of their type; `every`, where given, is told of each record of the followed services.
    """

    name: str
    version: int
    services: tuple[str, ...]
    tables: tuple[Table, ...]
    handlers: Mapping[type[Fact], Handler]
    every: Listener | None = None

    @property
    def follower(self) -> str:
        """The name its checkpoints stand under. Each version has tables and checkpoints of its own."""
        return f"view/{self.name}.v{self.version}"


def change(table: Table, key: Any, update: Callable[..., None], *arguments: Any) -> Change:
    """Name a change: `update(row, *arguments)` on the row of `key`, which is made when it is not there."""
    return (table, key, update, arguments)


def append(table: Table, row: Row) -> Change:
    """Name a new row of an append-only table."""
    assert table.append_only, table.name
    return (table, None, _written_once, (row,))


def _written_once(_row: Row) -> None:
    raise AssertionError("an appended row is not updated")


def put(row: Row, fields: Mapping[str, Any]) -> None:
    """Update: set these columns, whatever they were."""
    for name, value in fields.items():
        setattr(row, name, value)


def json_text(value: Any) -> str:
    """Return a value as the JSON text a column keeps."""
    return msgspec.json.encode(value).decode()
