"""`commons doctor`: whether everything that must never break is still whole."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from infra.cli.output import EXIT_REFUSED, emit_json, steps, table
from infra.cli.session import with_platform
from infra.doctor import Check, examine, examine_home
from infra.errors import explained
from infra.platform import Platform
from infra.settings import read_settings


def doctor(*, json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Check facts, book, views, keys, clock and disk; exit status 1 when something is broken."""
    checks = _all(quiet=json)
    broken = any(check.verdict == "broken" for check in checks)
    if json:
        emit_json({"sound": not broken, "checks": msgspec.to_builtins(checks)})
    else:
        table(
            "doctor", ("check", "verdict", "seen", "what to do"), [(c.name, c.verdict, c.detail, c.fix) for c in checks]
        )
    if broken:
        raise typer.Exit(EXIT_REFUSED)


def _all(*, quiet: bool) -> list[Check]:
    """Return every check; where nothing can be opened, those of the home and why."""
    settings = read_settings()
    try:
        return with_platform(lambda platform: _examine(platform, quiet=quiet))
    except Exception as error:
        message = explained(error)
        if message is None:
            raise
    seen = examine_home(settings.home) if settings.home.is_dir() else []
    return [*seen, Check("start", "broken", message, "do what it says; until then the facts cannot be looked at")]


async def _examine(platform: Platform, *, quiet: bool) -> list[Check]:
    with steps(quiet=quiet) as tell:
        return await examine(platform, tell)
