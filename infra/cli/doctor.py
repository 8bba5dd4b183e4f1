"""`commons doctor`: whether everything that must never break is still whole."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from infra.cli.output import EXIT_REFUSED, emit_json, steps, table
from infra.cli.session import with_platform
from infra.doctor import Check, examine
from infra.platform import Platform


def doctor(*, json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Check facts, book, views, keys, clock and disk; exit status 1 when something is broken."""
    checks = with_platform(lambda platform: _examine(platform, quiet=json))
    broken = any(check.verdict == "broken" for check in checks)
    if json:
        emit_json({"sound": not broken, "checks": msgspec.to_builtins(checks)})
    else:
        table(
            "doctor", ("check", "verdict", "seen", "what to do"), [(c.name, c.verdict, c.detail, c.fix) for c in checks]
        )
    if broken:
        raise typer.Exit(EXIT_REFUSED)


async def _examine(platform: Platform, *, quiet: bool) -> list[Check]:
    with steps(quiet=quiet) as tell:
        return await examine(platform, tell)
