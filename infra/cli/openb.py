"""`commons import openb`: a whole cluster trace through the public API, from genesis to paid epochs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from events.envelope import time_us
from events.genesis import Community
from infra.api import HttpApi
from infra.cli.output import emit_json, fail, pairs, say, steps
from infra.genesis_file import shipped_table
from infra.keys import KeyDirectory
from infra.openb.community import CONSUMER, PROVIDERS, import_community
from infra.openb.flow import import_history
from infra.openb.names import Names
from infra.openb.report import Report
from infra.openb.run import Import, Progress
from infra.openb.slices import Mess
from infra.openb.trace import read_trace
from infra.settings import Settings, read_settings

Make = Callable[[HttpApi, Progress], Import]

LONGEST_SLICE_SECONDS = 300


def openb(  # noqa: PLR0913 - each is an option of the command
    *,
    nodes: Annotated[Path, typer.Option(help="The node list (CSV).")],
    pods: Annotated[Path, typer.Option(help="The pod list (CSV).")],
    url: Annotated[str | None, typer.Option(help="The running instance of this home; started when absent.")] = None,
    slice_seconds: Annotated[int, typer.Option(min=1, max=LONGEST_SLICE_SECONDS, help="Length of a reading.")] = 300,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Send readings and batches in disorder.")] = False,
    duplicates: Annotated[float, typer.Option(min=0.0, max=1.0, help="Part sent again or re-sliced.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the disorder.")] = 0,
    origin: Annotated[str, typer.Option(help="The moment the trace's second 0 stands for.")] = "2023-01-01T00:00:00Z",
    json: Annotated[bool, typer.Option("--json", help="Only the JSON object, no table.")] = False,
) -> None:
    """Import an openb trace: nodes, leases, signed readings; wait until its epochs are closed and paid."""
    settings = read_settings()
    trace = read_trace(nodes, pods)
    start_ms = _origin_ms(origin)
    seed_bytes = KeyDirectory(settings.home).secret("operator")
    names = Names(seed_bytes, "openb")
    operator = KeyDirectory(settings.home).signing("operator")
    community = import_community(trace, names, operator.public, start_ms, [shipped_table("infer-1")])

    def make(api: HttpApi, tell: Progress) -> Import:
        mess = Mess(shuffle, duplicates, seed)
        return Import(
            api,
            trace,
            community,
            community.backfills[0],
            names,
            operator,
            operator,
            slice_seconds * 1_000,
            mess,
            start_ms,
            PROVIDERS,
            CONSUMER,
            tell,
        )

    report = asyncio.run(_run(settings, community, make, url, quiet=json))
    if not json:
        pairs("imported", {name: f"{value:,}" for name, value in report.to_json().items()})
    emit_json(report.to_json())


async def _run(settings: Settings, community: Community, make: Make, url: str | None, *, quiet: bool) -> Report:
    with steps(quiet=quiet) as tell:
        return await import_history(settings, community, lambda api: make(api, tell), say, url=url)


def _origin_ms(text: str) -> int:
    try:
        in_utc = datetime.fromisoformat(text).utcoffset() == timedelta(0)
    except ValueError:
        in_utc = False
    if not in_utc:
        fail(f"--origin {text} is no moment in UTC", "write it like 2023-01-01T00:00:00Z")
    return time_us(text) // 1_000
