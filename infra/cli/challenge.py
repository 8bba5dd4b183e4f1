"""`commons challenge`: what a steward asks of nodes by hand, until challenges are drawn by lot."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from infra.agent.registration import genesis_of
from infra.api import HttpApi
from infra.challenges import GetAnswer, by_command, by_file, carry_out, draw
from infra.cli.output import EXIT_REFUSED, emit_json, fail, pairs, say
from infra.keys import KeyDirectory, SigningKey, read_secret, signing_key
from infra.local import local_url
from infra.platform import wall_clock_ms
from infra.settings import read_settings

challenge = typer.Typer(help="Challenge nodes, as a steward.", no_args_is_help=True)


@challenge.callback()
def challenges() -> None:
    """Challenge nodes, as a steward."""


@challenge.command("storage")
def storage(
    lease: Annotated[str, typer.Argument(help="A storage lease that has begun.")],
    ask: Annotated[str, typer.Option(help="How to reach the node, e.g. 'ssh rack3 commons agent prove'.")] = "",
    answer: Annotated[Path | None, typer.Option(help="Wait for the node's answer in this file instead.")] = None,
    key: Annotated[Path | None, typer.Option(help="The steward's key file; the home's operator's by default.")] = None,
    server: Annotated[str, typer.Option(help="The instance's public URL; this home's by default.")] = "",
    *,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Draw chunks of what a lease keeps, ask its node for them, and record the answer; exit status 1 if it failed."""
    if bool(ask) == (answer is not None):
        fail("how does the node's answer come here?", "name --ask COMMAND or --answer FILE")
    if answer is not None and answer.exists():
        fail(f"{answer} is there already", "name a file that does not exist yet")
    settings = read_settings()
    signer = signing_key(read_secret(key)) if key else KeyDirectory(settings.home).signing("operator")
    base, public = (server, server) if server else (local_url(settings), settings.public_url)
    get = by_file(answer) if answer else by_command(shlex.split(ask))
    try:
        told = asyncio.run(_challenge(base, public, signer, lease, get))
    except httpx.TransportError:
        fail(f"nothing answers at {base}", "name the instance with --server URL")
    if json:
        emit_json(told)
    else:
        pairs("storage challenge", told)
    if not told["passed"]:
        raise typer.Exit(EXIT_REFUSED)


async def _challenge(base: str, public: str, signer: SigningKey, lease: str, get: GetAnswer) -> Mapping[str, Any]:
    async with HttpApi(base, public, await genesis_of(base, public)) as api:
        drawn = await draw(api, lease, wall_clock_ms)
        say(f"{drawn.node} has 60 seconds to answer:")
        say(f"  commons agent prove {shlex.join(drawn.arguments())}")
        return await carry_out(api, signer, drawn, get, wall_clock_ms)
