"""`commons migrate`: bring the database's tables to this software's layout, step by step, with nothing else running."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from events.facts import FACTS_BY_SERVICE
from infra.cli.output import emit_json, say, table
from infra.home import maintenance
from infra.local import database
from infra.postgres.migration import Done
from infra.postgres.migration import migrate as run_steps
from infra.postgres.schema import LAYOUT
from infra.settings import read_settings


def migrate(*, json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Bring the tables to this software's layout; take a backup before."""
    settings = read_settings()

    async def main() -> Sequence[Done]:
        with maintenance(settings.home):
            async with database(settings, say, borrow=False) as dsn:
                return await run_steps(dsn, list(FACTS_BY_SERVICE))

    done = asyncio.run(main())
    if json:
        emit_json({"layout": LAYOUT, "steps": msgspec.to_builtins(done)})
    elif done:
        table("migrated", ("part", "step"), [(step.part, step.name) for step in done])
    else:
        say(f"nothing to do: every table has layout {LAYOUT}")
