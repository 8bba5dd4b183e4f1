"""`commons keys`: which keys this home has, how old they are, and how to replace one. Secrets are never shown."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from infra.cli.output import emit_json, fail, say, table
from infra.key_ring import KeyFile, KeyRing, rfc3339
from infra.platform import wall_clock_ms
from infra.rotation import WHY_NOT, rotate_acknowledgements, rotate_operator
from infra.settings import read_settings

DAY_MS = 86_400_000

keys = typer.Typer(help="List this home's keys, or replace one.", invoke_without_command=True)


@keys.callback()
def list_keys(
    context: typer.Context, *, json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False
) -> None:
    """List the home's keys, making those that sign at the first call."""
    if context.invoked_subcommand is not None:
        return
    settings = read_settings()
    ring = KeyRing(settings.home)
    now, files = wall_clock_ms(), ring.files()
    if json:
        emit_json({"operator": ring.member(), "keys": [_object(file, now) for file in files]})
        return
    rows = [(f.name, f.purpose, f.kid or "-", (now - f.since_ms) // DAY_MS, f"{f.mode:04o}", f.retired) for f in files]
    table(f"keys in {settings.home / 'keys'}", ("name", "what for", "kid (RFC 7638)", "days", "mode", "retired"), rows)
    table("member", ("the operator's member id",), [(ring.member(),)])


def _object(file: KeyFile, now_ms: int) -> dict[str, object]:
    return {
        "name": file.name,
        "purpose": file.purpose,
        "kid": file.kid,
        "x": file.x,
        "since": rfc3339(file.since_ms),
        "days": (now_ms - file.since_ms) // DAY_MS,
        "mode": f"{file.mode:04o}",
        "retired": file.retired,
    }


@keys.command()
def rotate(
    name: Annotated[str, typer.Argument(help="operator or acknowledgements.")],
    *,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Replace a key by a new one; what the old one signed stays verifiable."""
    settings = read_settings()
    if name == "operator":
        new = asyncio.run(rotate_operator(settings, say))
    elif name == "acknowledgements":
        new = asyncio.run(rotate_acknowledgements(settings))
    elif name in WHY_NOT:
        fail(f"{name} does not rotate: {WHY_NOT[name]}")
    else:
        fail(f"there is no key {name!r} to rotate", "there are operator and acknowledgements")
    if json:
        emit_json({"name": name, "kid": new.kid})
    else:
        say(f"{name} signs with {new.kid} from now on; back the home up, older backups hold the old key")
