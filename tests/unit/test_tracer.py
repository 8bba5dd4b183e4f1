"""Spans as OpenTelemetry gets them: whose children they are, what they show, and when there are none."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from events.telemetry import Telemetry, current, ids_of
from infra.http.watched import OTHER, templates
from infra.telemetry.tracer import MOST_PARENTS, OtelTracer
from tests.toy_edge import toy_edge


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> OtelTracer:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OtelTracer(provider)


def parent(number: int) -> str:
    return f"00-{number:032x}-{number:016x}-01"


def test_a_span_continues_the_one_around_it_and_leaves_it_as_it_was(
    tracer: OtelTracer, exporter: InMemorySpanExporter
) -> None:
    with tracer.span("outer") as outer:
        with tracer.span("inner", fact=1) as inner:
            assert current() == inner
        assert current() == outer
    assert current() == ""
    assert ids_of(inner)[0] == ids_of(outer)[0]
    first, second = exporter.get_finished_spans()
    assert first.parent is not None
    assert (first.name, first.parent.span_id) == ("inner", second.context.span_id)
    assert first.attributes == {"fact": 1}


def test_work_for_several_traces_stands_in_the_first_and_is_shown_in_the_others(
    tracer: OtelTracer, exporter: InMemorySpanExporter
) -> None:
    with tracer.span("commit", [parent(1), parent(2), parent(3)]) as stated:
        pass
    assert ids_of(stated)[0] == ids_of(parent(1))[0]
    work, *shown = exporter.get_finished_spans()
    assert [span.context.trace_id for span in (work, *shown)] == [1, 2, 3]
    assert [link.context.trace_id for link in work.links] == [2, 3]
    assert [[link.context.span_id for link in span.links] for span in shown] == [[work.context.span_id]] * 2


def test_thousands_of_traces_make_a_bounded_number_of_spans(tracer: OtelTracer, exporter: InMemorySpanExporter) -> None:
    with tracer.span("commit", [parent(number) for number in range(1, 5_001)]):
        pass
    assert len(exporter.get_finished_spans()) == MOST_PARENTS


def test_what_continues_nothing_is_no_span(tracer: OtelTracer, exporter: InMemorySpanExporter) -> None:
    with tracer.span("view", []) as stated:
        assert stated == current() == ""
    assert exporter.get_finished_spans() == ()


def test_a_trace_that_is_not_kept_is_not_passed_on_and_not_begun_anew(exporter: InMemorySpanExporter) -> None:
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = OtelTracer(provider)
    with tracer.span("outer") as outer:
        around = current()
        with tracer.span("inner") as inner:
            assert ids_of(current())[0] == ids_of(around)[0] != ""
    assert outer == inner == ""
    assert exporter.get_finished_spans() == ()


def test_of_an_error_only_its_type_is_kept(tracer: OtelTracer, exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="a secret"), tracer.span("append"):
        raise ValueError("a secret")
    (span,) = exporter.get_finished_spans()
    assert (span.status.description, span.attributes, span.events) == ("ValueError", {"error.type": "ValueError"}, ())


async def test_tasks_side_by_side_have_spans_of_their_own(tracer: OtelTracer) -> None:
    async def work(name: str) -> tuple[str, str]:
        with tracer.span(name) as stated:
            await asyncio.sleep(0.01)
            return stated, current()

    found = await asyncio.gather(*(work(str(number)) for number in range(8)))
    assert all(stated == seen for stated, seen in found)
    assert len({ids_of(stated)[0] for stated, _ in found}) == 8


async def test_the_route_of_a_request_is_its_template_and_never_what_was_asked() -> None:
    async with toy_edge() as edge:
        route_of = templates(edge.app.routes)
    assert route_of("/v1/toy/count") == "/v1/toy/count"
    assert route_of("/v1/views/counts/ada") == "/v1/views/counts/{name}"
    assert route_of("/v1/views/counts/{name}/x") == route_of("/wp-admin") == OTHER


def test_telemetry_is_off_unless_told_otherwise() -> None:
    telemetry = Telemetry()
    with telemetry.tracer.span("append") as stated, telemetry.meter.time("commons_commit_seconds", "toy"):
        assert stated == current() == ""
    assert not telemetry.tracer.active
