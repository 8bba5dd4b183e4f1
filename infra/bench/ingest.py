"""Benchmark of ingest: signed batches of readings over HTTP into a running instance, from accepted to durable.

A whole instance is started in a home of its own (edge and followers as `commons up` starts them); nodes and leases
are registered first, then rounds of batches are sent and timed. The baseline is a raw COPY of the records this made
into a table with the same indexes: the same bytes with nothing checked.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import asyncpg  # type: ignore[import-untyped]

from events.metering import ReadingsRecorded
from events.store import Store
from infra.api import HttpApi
from infra.bench.rounds import Figure, Work, alternate
from infra.genesis_file import shipped_table
from infra.keys import KeyDirectory
from infra.local import Say, database, local_url, processes
from infra.openb.community import CONSUMER, PROVIDERS, import_community
from infra.openb.flow import ensure_founded
from infra.openb.names import Names
from infra.openb.run import BATCHES, Import
from infra.openb.slices import Mess, payloads, signed
from infra.openb.trace import Trace, TraceNode, TracePod
from infra.platform import CHILDREN
from infra.postgres.store import PostgresStore
from infra.settings import Settings
from services.registry.genesis import sha256

NODES: Final = 40
DAYS: Final = 4
SLICE_MS: Final = 300_000
FLOOR: Final = 50_000
ROUNDS: Final = 3

_RAW: Final = "bench_raw_ingest"


def synthetic_trace() -> Trace:
    """Return NODES nodes of one T4 each, all of them leased for DAYS days."""
    nodes = tuple(TraceNode(f"bench-node-{number}", 8_000, 32_768, 1, "T4") for number in range(NODES))
    pods = tuple(TracePod(f"bench-pod-{number}", 1_000, 1, 1_000, (), 0, DAYS * 86_400) for number in range(NODES))
    return Trace(nodes, pods, {"bench": "0" * 64})


@asynccontextmanager
async def instance(home: Path, say: Say) -> AsyncIterator[tuple[Import, PostgresStore, str]]:
    """Run an instance with the trace's nodes and leases; yield the import, metering's store and the DSN."""
    settings = Settings(home, "127.0.0.1", _free_port(), "", "embedded:", "tail:", "warning")
    settings = replace(settings, public_url=local_url(settings))
    seed, trace, start_ms = KeyDirectory(home).secret("operator"), synthetic_trace(), 1_700_006_400_000
    operator, names = KeyDirectory(home).signing("operator"), Names(seed, "openb")
    community = import_community(trace, names, operator.public, start_ms, [shipped_table("infer-1")])
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(database(settings, say))
        await stack.enter_async_context(processes(replace(settings, database=dsn), CHILDREN, say))
        await ensure_founded(replace(settings, database=dsn), community, say)
        api = await stack.enter_async_context(HttpApi(local_url(settings), settings.public_url, sha256(community)))
        job = Import(
            api,
            trace,
            community,
            community.backfills[0],
            names,
            operator,
            operator,
            SLICE_MS,
            Mess(),
            start_ms,
            PROVIDERS,
            CONSUMER,
        )
        await job.register_nodes()
        await job.name_nodes()
        await job.open_leases()
        store = await PostgresStore.open(dsn, "metering")
        stack.push_async_callback(store.close)
        yield job, store, dsn


def sending(job: Import) -> Work:
    """Return a round that sends every node's readings, cut a little shorter than the round before, so all are new.

    Batches are cut and signed beforehand: that is the nodes' work, not the server's.
    """
    prepared: dict[int, list[tuple[Any, list[str]]]] = {}

    def prepare(number: int) -> list[tuple[Any, list[str]]]:
        made = []
        for node, leases in job.placed.items():
            key = job.names.node(node)
            cut = payloads(key.node, leases, SLICE_MS - 1_000 * number, Mess())
            made.append((key, [signed(payload, key) for payload in cut]))
        return made

    for number in range(ROUNDS + 1):
        prepared[number] = prepare(number)

    async def work(number: int) -> int:
        counts = await asyncio.gather(*(_send(job, key, batches) for key, batches in prepared.pop(number)))
        return sum(counts)

    return work


async def _send(job: Import, key: Any, batches: Sequence[str]) -> int:
    accepted = 0
    for at in range(0, len(batches), BATCHES):
        for answer in await job.api.bulk(key, "/v1/metering/readings", batches[at : at + BATCHES]):
            assert answer["status"] == "accepted", answer
            accepted += int(answer["readings"])
    return accepted


async def bench_ingest(home: Path, say: Say) -> Figure:
    """Measure readings per second over HTTP, followers running beside it. Floor: 50,000 readings/s."""
    async with instance(home, say) as (job, store, dsn):
        (ours,) = await alternate(ROUNDS, sending(job))
        records, readings = await _records(store)
        raw = await _copying(dsn, records, readings)
    return Figure(
        "ingest over HTTP", ours, raw, ours / raw, "readings/s", "raw COPY of the same records", f"ours >= {FLOOR:,}"
    )


async def _records(store: Store) -> tuple[list[tuple[Any, ...]], int]:
    """Return the rows of all recorded batches, and how many readings they hold."""
    rows: list[tuple[Any, ...]] = []
    readings, position = 0, 0
    while page := await store.read(position):
        for notification in page:
            if notification.topic == ReadingsRecorded.TYPE:
                event = notification
                rows.append((event.originator_id, event.originator_version, event.topic, event.state, event.id, 0))
                readings += _stated(event.state)
        position = page[-1].id
    return rows, readings


def _stated(record: bytes) -> int:
    return int(record.partition(b'"readings":')[2].partition(b",")[0])


async def _copying(dsn: str, rows: Sequence[tuple[Any, ...]], readings: int) -> float:
    """Return readings per second of a raw COPY of `rows`, median of ROUNDS."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f"CREATE SCHEMA {_RAW}")
        await connection.execute(f"CREATE TABLE {_RAW}.events (LIKE metering.events INCLUDING ALL)")

        async def work(_round: int) -> int:
            await connection.execute(f"TRUNCATE {_RAW}.events")
            await connection.copy_records_to_table("events", schema_name=_RAW, records=rows)
            return readings

        (raw,) = await alternate(ROUNDS, work)
    finally:
        await connection.close()
    return raw


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
