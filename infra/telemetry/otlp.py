"""Sends spans to an OpenTelemetry collector over OTLP (gRPC). A collector that is away costs spans and nothing else."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from infra.telemetry.tracer import OtelTracer

SEND_SECONDS: Final = 5
"""How long one batch may take; what does not fit in the queue meanwhile is dropped."""

LAST_SECONDS: Final = 1.0
"""How long the end of a process waits for its last spans."""


def sender(endpoint: str) -> SpanProcessor:
    """Return what sends finished spans to `host:port`, in batches and from a thread of its own."""
    # The library prints a line at each try while the collector is away.
    logging.getLogger("opentelemetry.exporter.otlp").setLevel(logging.CRITICAL)
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=f"http://{endpoint}", insecure=True, timeout=SEND_SECONDS))


@asynccontextmanager
async def open_tracer(processor: SpanProcessor) -> AsyncIterator[OtelTracer]:
    """Yield a tracer whose spans go to `processor`; the last ones are sent on leaving, within LAST_SECONDS."""
    names: dict[str, str | int] = {
        "service.name": "commons",
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
    }
    provider = TracerProvider(resource=Resource(names), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    try:
        yield OtelTracer(provider)
    finally:
        ending = threading.Thread(target=provider.shutdown, daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, LAST_SECONDS)
