"""All commands of `commons`, and the one place where an error becomes a message and an exit status."""

from __future__ import annotations

import sys

import typer

from infra.cli.agent import agent
from infra.cli.backup import backup, restore
from infra.cli.bench import bench
from infra.cli.challenge import challenge
from infra.cli.demo import demo
from infra.cli.doctor import doctor
from infra.cli.followers import orders, parked
from infra.cli.genesis import genesis
from infra.cli.keys import keys
from infra.cli.keystore import keystore
from infra.cli.migrate import migrate
from infra.cli.openb import openb
from infra.cli.output import EXIT_INTERRUPTED, EXIT_REFUSED, say
from infra.cli.schemas import schemas
from infra.cli.store import prove, store
from infra.cli.up import child, up
from infra.cli.views import lag, rebuild, views
from infra.errors import explained

app = typer.Typer(
    help="Compute Commons: meter, score and reward what a community pools.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
importers = typer.Typer(help="Bring history of other systems in.", no_args_is_help=True)

app.command()(up)
app.command(hidden=True)(child)
app.command()(demo)
app.command()(genesis)
app.add_typer(agent, name="agent")
agent.command()(store)
agent.command()(prove)
app.add_typer(challenge, name="challenge")
app.add_typer(importers, name="import")
importers.command("openb")(openb)
app.command()(rebuild)
app.command()(lag)
app.add_typer(views, name="views")
app.add_typer(orders, name="followers")
app.add_typer(parked, name="parked")
app.add_typer(keys, name="keys")
app.add_typer(keystore, name="keystore")
app.command()(schemas)
app.command()(bench)
app.command()(doctor)
app.command()(backup)
app.command()(restore)
app.command()(migrate)


def main() -> None:
    """Run the command line; what is the caller's to mend is one sentence on stderr, never a trace."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        message = explained(error)
        if message is None:
            raise
        say(f"commons: {message}")
        sys.exit(EXIT_REFUSED)
