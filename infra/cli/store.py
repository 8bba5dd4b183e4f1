"""`commons agent store` and `commons agent prove`: keep what storage leases name, and answer challenges of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from infra.agent.clock import SystemClock
from infra.agent.home import AgentHome
from infra.agent.proving import Asked, answer_to
from infra.agent.settings import read_agent_settings
from infra.agent.store import Store
from infra.cli.output import emit_json, table


def store(
    files: Annotated[
        list[Path], typer.Argument(help="Files to keep, as their consumer encrypted them.", exists=True, dir_okay=False)
    ],
    *,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Keep copies of files in the agent's home; show the root and size that a lease of each has to name."""
    kept = [Store(AgentHome(read_agent_settings().home).path).keep(file) for file in files]
    if json:
        emit_json({"kept": msgspec.to_builtins(kept)})
    else:
        rows = [(str(file), one.root, f"{one.bytes:,}", one.mb) for file, one in zip(files, kept, strict=True)]
        table("kept", ("file", "root", "bytes", "MB to lease"), rows)


def prove(
    lease: Annotated[str, typer.Argument(help="The lease whose content is asked for.")],
    challenge: Annotated[str, typer.Option(help="The challenge's id.")],
    seed: Annotated[str, typer.Option(help="What the chunks are drawn from: 64 hex digits.")],
    start_ms: Annotated[int, typer.Option(help="When the challenger began, milliseconds UTC.")],
    root: Annotated[str, typer.Option(help="The root of the lease's content.")],
) -> None:
    """Print this node's signed answer to a storage challenge; the challenger's tool says how to call this."""
    home = AgentHome(read_agent_settings().home)
    sys.stdout.write(answer_to(home, Asked(lease, challenge, seed, start_ms, root), SystemClock()) + "\n")
