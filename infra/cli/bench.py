"""`commons bench`: every figure beside its baseline, in one run, on a database of its own."""

from __future__ import annotations

import asyncio
import logging
import os
import platform as machine
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import psutil
import typer

from infra.bench.rounds import Figure
from infra.cli.output import emit_json, fail, say, table
from infra.postgres.embedded import EmbeddedPostgres

Bench = Callable[[str, Path], Awaitable[list[Figure]]]


# Each bench is imported when it runs: the baselines are the library's own, with drivers that are no dependency of ours.


async def _append(dsn: str, _home: Path) -> list[Figure]:
    from infra.bench.commands import bench_commands  # noqa: PLC0415 - see above
    from infra.bench.store import bench_batches  # noqa: PLC0415 - see above

    return [await bench_commands(dsn), await bench_batches(dsn)]


async def _tail(dsn: str, _home: Path) -> list[Figure]:
    from infra.bench.store import bench_tail  # noqa: PLC0415 - see above

    return [await bench_tail(dsn)]


async def _ingest(_dsn: str, home: Path) -> list[Figure]:
    from infra.bench.ingest import bench_ingest  # noqa: PLC0415 - see above

    return [await bench_ingest(home / "ingest", say)]


async def _rebuild(dsn: str, _home: Path) -> list[Figure]:
    from infra.bench.rebuild import FEW_ACCOUNTS, MANY_ACCOUNTS, bench_rebuild  # noqa: PLC0415 - see above

    return [await bench_rebuild(dsn, accounts=FEW_ACCOUNTS), await bench_rebuild(dsn, accounts=MANY_ACCOUNTS)]


async def _telemetry(_dsn: str, _home: Path) -> list[Figure]:
    from infra.bench.telemetry import bench_telemetry  # noqa: PLC0415 - see above

    return [await bench_telemetry()]


async def _kafka(dsn: str, home: Path) -> list[Figure]:
    from infra.bench.brokers import brokers  # noqa: PLC0415 - see above
    from infra.bench.consumer import bench_consumers  # noqa: PLC0415 - see above
    from infra.bench.relay import bench_relay  # noqa: PLC0415 - see above

    async with brokers(home) as cluster:
        return [*await bench_relay(dsn, cluster), *await bench_consumers(dsn, cluster)]


async def _flow(_dsn: str, home: Path) -> list[Figure]:
    from infra.bench.flow import bench_flow  # noqa: PLC0415 - see above

    return await bench_flow(home / "flow", say)


BENCHES: Final[dict[str, Bench]] = {
    "append": _append,
    "tail": _tail,
    "ingest": _ingest,
    "rebuild": _rebuild,
    "telemetry": _telemetry,
    "kafka": _kafka,
    "flow": _flow,
}
ON_KAFKA: Final = frozenset({"kafka", "flow"})
"""Benches that want brokers, and the event loop that roles run on."""


def bench(
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help=f"{', '.join(BENCHES)}; all.")] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure; the baselines need the development dependencies."""
    if unknown := sorted(set(names or ()) - set(BENCHES)):
        fail(f"there is no bench {unknown[0]!r}", f"there are {', '.join(BENCHES)}")
    try:
        figures = run(names or list(BENCHES))
    except ModuleNotFoundError as error:
        fail(f"a baseline needs {error.name}", "the benches run with the development dependencies: `uv sync`")
    described = describe()
    if json:
        emit_json({"machine": described, "figures": msgspec.to_builtins(figures)})
        return
    columns = ("bench", "ours", "unit", "baseline", "what it is", "ratio", "floor")
    rows = [
        (f.name, _number(f.ours), f.unit, _number(f.baseline), f.baseline_name, f"{f.ratio:.2f}", f.floor)
        for f in figures
    ]
    table("  ".join(f"{key}: {value}" for key, value in described.items()), columns, rows)


def run(names: list[str]) -> list[Figure]:
    """Run benches on a fresh embedded database that is removed afterwards."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="commons-bench-") as folder:
        home = Path(folder)
        with EmbeddedPostgres(home / "database") as server:
            for name in names:
                say(f"bench {name} ...")
                if name in ON_KAFKA:
                    figures += _on_kafka(_measured(BENCHES[name], server.dsn, home))
                else:
                    figures += asyncio.run(_measured(BENCHES[name], server.dsn, home))
    return figures


def _on_kafka(measuring: Coroutine[Any, Any, list[Figure]]) -> list[Figure]:
    import uvloop  # noqa: PLC0415 - not on every platform

    from infra.kafka.classpath import NoNativeKafka  # noqa: PLC0415 - the client library is loaded for Kafka only

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it calls everything an error that it tries again
    try:
        return uvloop.run(measuring)
    except NoNativeKafka as missing:
        say(f"left out: {missing}, and COMMONS_TEST_KAFKA names no broker")
        return []


async def _measured(bench: Bench, dsn: str, home: Path) -> list[Figure]:
    return await bench(dsn, home)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"  # noqa: PLR2004 - three digits tell enough


def describe() -> dict[str, str]:
    """Describe the machine: a figure without it means nothing."""
    return {
        "cpus": str(os.cpu_count()),
        "processor": _processor(),
        "memory": f"{psutil.virtual_memory().total // 2**30} GiB",
        "system": f"{machine.system()} {machine.release()}",
        "python": machine.python_version(),
        "fsync": "on",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return machine.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
