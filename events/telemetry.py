"""The telemetry ports: spans that join one trace, numbers that are counted, and where the trace of a fact is noted.

Nothing here decides anything. A process runs with all of it switched off and behaves the same; the defaults below do
nothing, at a cost `commons bench telemetry` shows. Names of numbers and their labels stand in
`infra/telemetry/metrics.py`.

A trace is named by a W3C `traceparent` (https://www.w3.org/TR/trace-context/). It never goes into a fact's bytes: it
travels beside them, from the commit to the followers as a note (`TraceNotes`), on Kafka as a record header.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Protocol

TRACEPARENT: Final = "traceparent"
"""The name of the header, in HTTP and on Kafka."""

_FORM: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_CURRENT: ContextVar[str] = ContextVar(TRACEPARENT, default="")


@dataclass(frozen=True, slots=True)
class TraceNote:
    """The span that facts `first` to `last` of a service were recorded in."""

    first: int
    last: int
    traceparent: str


class Tracer(Protocol):
    """Makes spans."""

    @property
    def active(self) -> bool:
        """Tell whether anybody listens; what costs anything to prepare is prepared only then."""
        ...

    def span(
        self, name: str, parents: Sequence[str] | None = None, **attributes: str | int
    ) -> AbstractContextManager[str]:
        """Measure what happens inside and yield the span's traceparent, empty for one that is not kept.

        What it raises is noted in it by type.

        By default it continues the span around it, or begins a trace. With `parents` it continues those: work that
        serves several traces at once stands in the first and is shown in the others; with none it is no span at all
        and yields an empty text.
        """
        ...


class Meter(Protocol):
    """Counts. Labels are values of ours (a service, a type, a route), never a caller's text."""

    def count(self, name: str, amount: int, *labels: str) -> None:
        """Add to a number that only grows."""
        ...

    def observe(self, name: str, value: int, *labels: str) -> None:
        """Take one value into a distribution."""
        ...

    def time(self, name: str, *labels: str) -> AbstractContextManager[None]:
        """Take how long the inside lasts into a distribution, in microseconds."""
        ...


class TraceNotes(Protocol):
    """Keeps for a while which span facts were recorded in. Both methods never raise: a lost note is a shorter trace."""

    async def note(self, service: str, after: int, notes: Sequence[TraceNote]) -> None:
        """Keep notes of facts that are about to be committed after position `after`, and drop older ones beyond it.

        Called under the writer lock and before the commit, so that whoever sees a fact finds its note.
        """
        ...

    async def noted(self, service: str, after: int, upto: int) -> Mapping[int, str]:
        """Return the traceparents of the facts after `after` up to `upto`, by position, for those that have one."""
        ...


class Untraced:
    """Nobody listens."""

    active = False

    def span(
        self,
        name: str,  # noqa: ARG002 - the port's parameters
        parents: Sequence[str] | None = None,  # noqa: ARG002 - the same
        **attributes: str | int,  # noqa: ARG002 - the same
    ) -> AbstractContextManager[str]:
        """Do nothing."""
        return _NOTHING


class Unmetered:
    """Nobody counts."""

    def count(self, name: str, amount: int, *labels: str) -> None:
        """Do nothing."""

    def observe(self, name: str, value: int, *labels: str) -> None:
        """Do nothing."""

    def time(self, name: str, *labels: str) -> AbstractContextManager[None]:  # noqa: ARG002 - the port's parameters
        """Do nothing."""
        return _NO_TIME


class Unnoted:
    """Nobody notes."""

    async def note(self, service: str, after: int, notes: Sequence[TraceNote]) -> None:
        """Do nothing."""

    async def noted(self, service: str, after: int, upto: int) -> Mapping[int, str]:  # noqa: ARG002 - as above
        """Know nothing."""
        return {}


# One object for every use: it holds nothing, so entering it twice at a time is harmless.
_NOTHING: Final = nullcontext("")
_NO_TIME: Final = nullcontext()


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The three ports of one process, off unless told otherwise."""

    tracer: Tracer = field(default_factory=Untraced)
    meter: Meter = field(default_factory=Unmetered)
    notes: TraceNotes = field(default_factory=Unnoted)


def current() -> str:
    """Return the traceparent of the span around the caller, empty where there is none."""
    return _CURRENT.get()


@contextmanager
def within(traceparent: str) -> Iterator[None]:
    """Let `traceparent` be the current one inside."""
    token = _CURRENT.set(traceparent)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def read_traceparent(text: str) -> str:
    """Return the traceparent a caller or a record stated, or an empty text for anything that is none."""
    return text if _FORM.fullmatch(text) else ""


def ids_of(traceparent: str) -> tuple[str, str]:
    """Return (trace id, span id) in hex; both empty for an empty one."""
    parts = traceparent.split("-")
    return (parts[1], parts[2]) if len(parts) == 4 else ("", "")  # noqa: PLR2004 - version, trace, span, flags


def distinct(traceparents: Iterable[str]) -> Sequence[str]:
    """Return each traceparent once, in order, without empty ones."""
    return tuple(dict.fromkeys(filter(None, traceparents)))


def record_headers(traceparent: str) -> list[tuple[str, bytes]]:
    """Return the Kafka headers that carry a traceparent: one, or none for an empty one."""
    return [(TRACEPARENT, traceparent.encode())] if traceparent else []


def traceparent_of(headers: Iterable[tuple[str, bytes]]) -> str:
    """Return the traceparent among a Kafka record's headers, empty where there is none."""
    stated = next((value for name, value in headers if name == TRACEPARENT), b"")
    return read_traceparent(stated.decode("ascii", "replace"))
