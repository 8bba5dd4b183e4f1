"""How the command line speaks: rich text for people, one JSON object with --json, an error with its fix on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

EXIT_REFUSED = 1
EXIT_INTERRUPTED = 130
"""What a shell expects of work that Ctrl-C ended (128 + SIGINT)."""


def console() -> Console:
    """Return where people read; progress and tables go to stderr's neighbour, stdout."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def say(text: str) -> None:
    """Print a line for people on stderr, so that stdout stays what a program reads.

    Where it cannot be written (a log on a full disk, a terminal that was closed) the work goes on unheard.
    """
    with suppress(OSError):
        Console(stderr=True, highlight=False, soft_wrap=True).print(text, markup=False)


def emit_json(value: Any) -> None:
    """Print one JSON object on one line of stdout."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def fail(message: str, fix: str = "") -> NoReturn:
    """Say what went wrong and what to do, and exit with status 1."""
    say(f"commons: {message}")
    if fix:
        say(f"  {fix}")
    raise typer.Exit(EXIT_REFUSED)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows as a table; numbers are right-aligned."""
    kept = [[str(cell) for cell in row] for row in rows]
    made = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        numeric = bool(kept) and all(row[index].replace(",", "").replace(".", "").isdecimal() for row in kept)
        made.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in kept:
        made.add_row(*row)
    console().print(made)


def pairs(title: str, values: Mapping[str, object]) -> None:
    """Print names and values, one pair a line."""
    table(title, ("what", "value"), values.items())


class _Rate(ProgressColumn):
    """How many per second."""

    def render(self, task: Task) -> Text:
        """Return the speed of a task, or nothing before it is known."""
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


def progress(*, quiet: bool = False) -> Progress:
    """Return a progress display with rate and time left; it stays silent where stderr is no terminal."""
    where = Console(stderr=True)
    return Progress(
        TextColumn("{task.description:<22}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=where,
        disable=quiet or not where.is_terminal,
    )


@contextmanager
def steps(*, quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Yield `tell(step, done, total)` that draws a bar per step."""
    with progress(quiet=quiet) as display:
        tasks: dict[str, TaskID] = {}

        def tell(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = display.add_task(step, total=total)
            display.update(tasks[step], completed=done, total=total)

        yield tell
