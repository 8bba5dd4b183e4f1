"""Chooses what telemetry a process has, by the setting. With `none:` nothing of OpenTelemetry is imported."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg  # type: ignore[import-untyped]

from events.telemetry import Telemetry
from infra.postgres.pool import StoreConnection
from infra.telemetry.numbers import Numbers

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor

OFF = "none:"
SCHEME = "otlp://"


@dataclass(frozen=True, slots=True)
class Opened:
    """The telemetry of one process: the ports, the numbers behind the meter, and the class of its connections."""

    telemetry: Telemetry
    numbers: Numbers
    connections: type[asyncpg.Connection]


@asynccontextmanager
async def open_telemetry(setting: str, dsn: str, spans: SpanProcessor | None = None) -> AsyncIterator[Opened]:
    """Yield what `setting` (`none:` or `otlp://host:port`) asks for; `spans` takes the spans in place of a collector.

    Raises StoreUnavailable when traces cannot be noted in the database at `dsn`.
    """
    numbers = Numbers()
    if setting == OFF and spans is None:
        yield Opened(Telemetry(meter=numbers), numbers, StoreConnection)
        return
    from infra.telemetry.notes import open_notes  # noqa: PLC0415 - only who traces needs these
    from infra.telemetry.otlp import open_tracer, sender  # noqa: PLC0415 - the same
    from infra.telemetry.sql import traced_connection  # noqa: PLC0415 - the same

    processor = spans if spans is not None else sender(setting.removeprefix(SCHEME))
    async with open_tracer(processor) as tracer, open_notes(dsn) as notes:
        yield Opened(Telemetry(tracer, numbers, notes), numbers, traced_connection(tracer))
