"""Spans by OpenTelemetry. Which one is current is kept by `events.telemetry`, so that logs need no library for it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from events.telemetry import current, read_traceparent, within

MOST_PARENTS: Final = 64
"""Traces one piece of work is shown in; a group or a page may serve thousands."""

_ENTRY: Final = ("GET ", "POST ")


class OtelTracer:
    """Makes spans of one process."""

    active = True

    def __init__(self, provider: TracerProvider) -> None:
        """Use the caller's provider, which also decides what is sampled."""
        self._tracer = provider.get_tracer("commons")

    @contextmanager
    def span(self, name: str, parents: Sequence[str] | None = None, **attributes: str | int) -> Iterator[str]:
        """Measure the inside; see the port. Only the type of an error is kept: its text may hold anything."""
        if parents is not None and not parents:
            yield ""
            return
        first, *others = list(parents)[:MOST_PARENTS] if parents is not None else [current()]
        begun = time.time_ns()
        span = self._start(name, first, begun, attributes, [_context(other) for other in others])
        stated = traceparent(span.get_span_context())
        status = Status(StatusCode.UNSET)
        try:
            with within(stated):
                yield stated if span.is_recording() else ""  # what is not kept needs no notes and no followers
        except BaseException as error:
            status = Status(StatusCode.ERROR, type(error).__name__)
            span.set_attribute("error.type", type(error).__name__)
            raise
        finally:
            span.set_status(status)
            span.end()
            for other in others:  # the same work, seen from another trace
                shown = self._start(name, other, begun, attributes, [span.get_span_context()])
                shown.set_status(status)
                shown.end()

    def _start(
        self, name: str, parent: str, begun: int, attributes: dict[str, str | int], linked: Sequence[SpanContext]
    ) -> Span:
        above = _context(parent)
        context = set_span_in_context(NonRecordingSpan(above), Context()) if above.is_valid else Context()
        kind = SpanKind.SERVER if name.startswith(_ENTRY) else SpanKind.INTERNAL
        links = [Link(each) for each in linked if each.is_valid]
        return self._tracer.start_span(name, context, kind, attributes, links, begun)


def traceparent(context: SpanContext) -> str:
    """Return a span's name in the form of W3C Trace Context."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _context(stated: str) -> SpanContext:
    """Return what a traceparent names; an invalid context for what is none."""
    if not read_traceparent(stated):
        return SpanContext(0, 0, is_remote=True)
    _, trace, span, flags = stated.split("-")
    return SpanContext(int(trace, 16), int(span, 16), is_remote=True, trace_flags=TraceFlags(int(flags, 16)))
