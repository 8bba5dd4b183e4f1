"""`commons schemas`: the published shape of every fact and document."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.cli.output import EXIT_REFUSED, emit_json, fail, say, table
from infra.schemas import check, generate


def schemas(
    name: Annotated[str | None, typer.Argument(help="One type's name; a list of all when absent.")] = None,
    *,
    verify: Annotated[bool, typer.Option("--check", help="Compare the files in git with the code.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Print JSON Schemas, or check that those in git are up to date and break no published type."""
    if verify:
        findings = check()
        if json:
            emit_json({"types": findings.types, "stale": findings.stale, "breaking": findings.breaking})
        for line in (*findings.stale, *findings.breaking):
            say(line)
        if not findings.clean:
            raise typer.Exit(EXIT_REFUSED)
        return
    made = generate()
    if name is not None:
        if name not in made:
            fail(f"there is no type {name!r}", "`commons schemas` lists them")
        emit_json(made[name])
    elif json:
        emit_json(made)
    else:
        table("published types", ("type", "what it says"), [(key, _first(value)) for key, value in made.items()])


def _first(schema: dict[str, object]) -> str:
    text = str(schema.get("description", ""))
    return text.partition("\n")[0]
