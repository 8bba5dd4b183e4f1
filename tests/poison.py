"""Views that choke on chosen facts, each in another way a fold can go wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any

from events.catalog import Recorded
from projections.view import Change, Handler, Row, View, change

KINDS = ("handler", "halfway", "update", "row")


class Choked(Exception):
    """What the broken fold raises."""


def poisoned(view: View, positions: Collection[tuple[str, int]], kind: str) -> View:
    """Return the view with a fold that fails on the facts at these (service, position), under the same name."""
    handlers = {fact: _choking(view, handler, positions, kind) for fact, handler in view.handlers.items()}
    return replace(view, handlers=handlers)


def _choking(view: View, handler: Handler, positions: Collection[tuple[str, int]], kind: str) -> Handler:
    table = next(table for table in view.tables if not table.append_only)
    number = next(column for column in table.columns if column not in table.key and table.row.__annotations__)

    def handle(fact: Any, recorded: Recorded) -> Iterable[Change]:
        yield from handler(fact, recorded)
        if (recorded.service, recorded.position) not in positions:
            return
        if kind == "handler":
            raise Choked(f"cannot fold {recorded.position}")
        key = tuple("poison" for _ in table.key) if len(table.key) > 1 else "poison"
        yield change(table, key, _spoil, number, kind)

    if kind == "halfway":
        return lambda fact, recorded: _first_raise(handler, fact, recorded, positions)
    return handle


def _first_raise(
    handler: Handler, fact: Any, recorded: Recorded, positions: Collection[tuple[str, int]]
) -> Iterable[Change]:
    """Raise between two changes, so that some were handed over before."""
    for number, each in enumerate(handler(fact, recorded)):
        yield each
        if number == 0 and (recorded.service, recorded.position) in positions:
            raise Choked(f"cannot go on with {recorded.position}")


def _spoil(row: Row, column: str, kind: str) -> None:
    """Change the row, then raise; or leave something in it that no column can hold."""
    setattr(row, column, "\0")
    if kind == "update":
        raise Choked("in the middle of a row")
