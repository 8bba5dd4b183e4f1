"""`commons keys`: which keys this home signs with. Secrets are never shown."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.cli.output import emit_json, table
from infra.keys import KeyDirectory
from infra.settings import read_settings


def keys(*, json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """List the home's signing keys, making them at the first call."""
    settings = read_settings()
    directory = KeyDirectory(settings.home)
    operator = directory.signing("operator")
    rows = [
        {"name": name, "kid": key.kid, "x": key.public.x, "file": str(settings.home / "keys" / f"{name}.key")}
        for name, key in (("operator", operator), ("acknowledgements", directory.signing("acknowledgements")))
    ]
    if json:
        emit_json({"operator": operator.member, "keys": rows})
        return
    table(
        "signing keys (Ed25519)", ("name", "kid (RFC 7638)", "public x"), [(r["name"], r["kid"], r["x"]) for r in rows]
    )
    table("member", ("the operator's member id",), [(operator.member,)])
