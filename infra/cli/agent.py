"""`commons agent`: meters the machine it runs on. It needs a home of its own and a server, nothing else of ours."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from infra.agent.clock import SystemClock, boot_ms
from infra.agent.gpus import open_gpus
from infra.agent.hardware import look
from infra.agent.home import AgentHome
from infra.agent.registration import Terms, embodied_of, register, registration_body
from infra.agent.run import Agent, Pace
from infra.agent.sampling import Sample
from infra.agent.settings import AgentSettings, read_agent_settings
from infra.agent.status import Status, read_status
from infra.cli.output import EXIT_REFUSED, emit_json, fail, pairs, say
from infra.cli.up import run_until_signalled
from infra.keys import read_secret, signing_key
from infra.logs import noted, start_logging

UNITS: Final = {"gpu": "milli", "cpu": "milli-cores", "storage": "MB", "bandwidth": "kB/s"}

agent = typer.Typer(help="Meter this machine and report to an instance.", no_args_is_help=True)


@agent.command("register")
def register_machine(  # noqa: PLR0913 - each is an option of the command
    owner_key: Annotated[Path | None, typer.Option(help="The owner's key file: 64 hex digits, mode 0600.")] = None,
    zone: Annotated[str, typer.Option(help="Country or grid zone, e.g. FR or US-CAL-CISO.")] = "XX",
    label: Annotated[str, typer.Option(help="A public label; no names of people.")] = "",
    window: Annotated[str, typer.Option(help="When the machine is there: FROM-TO, whole hours UTC.")] = "0-24",
    pue_milli: Annotated[int | None, typer.Option(help="Power usage effectiveness in milli, from 1000 on.")] = None,
    storage_gb: Annotated[int, typer.Option(min=0, help="How many GB (10^9 bytes) of its disk it lends.")] = 0,
    bandwidth_mbit: Annotated[int, typer.Option(min=0, help="How many Mbit/s of its line it lends.")] = 0,
    *,
    embodied_kg: Annotated[str | None, typer.Option(help="What making it emitted: kg of CO2 equivalent.")] = None,
    lifetime_years: Annotated[int | None, typer.Option(min=1, max=100, help="Over how many years of life.")] = None,
    embodied_source: Annotated[str | None, typer.Option(help="Where that figure stands, e.g. a datasheet.")] = None,
    show: Annotated[bool, typer.Option("--print", help="Only print the body an owner elsewhere would sign.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Make this machine's node key, and register it with its owner's signature."""
    settings = read_agent_settings()
    home = AgentHome(settings.home)
    first, _, last = window.partition("-")
    if not first.isdecimal() or not last.isdecimal():
        fail(f"--window {window} is no window", "write it like 0-24 or 22-6")
    embodied = embodied_of(embodied_kg, lifetime_years, embodied_source)
    terms = Terms(zone, label, int(first), int(last), pue_milli, storage_gb, bandwidth_mbit, embodied)
    gpus, how = open_gpus(home.device_secret)
    hardware = look(gpus, home.device_secret)
    gpus.close()
    if show:
        emit_json({"node": home.key.node, "gpus": how, "body": registration_body(home, hardware, terms)})
        return
    owner = None if owner_key is None else signing_key(read_secret(owner_key))
    identity, status = asyncio.run(register(home, hardware, terms, owner, settings.server, settings.server))
    shown = {"node": identity.node, "owner": identity.owner, "status": status, "gpus": how, "home": str(home.path)}
    if json:
        emit_json(shown)
    else:
        pairs("this machine", shown)


@agent.command("run")
def run_agent(
    *,
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True, help="End when stdin is closed.")] = False,
) -> None:
    """Meter this machine until Ctrl-C or SIGTERM."""
    settings = read_agent_settings()
    home = AgentHome(settings.home)

    async def work(stop: asyncio.Event) -> None:
        if with_parent:
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), lambda: _when_closed(stop))
        await _agent(home, settings).run(stop, boot_ms())

    with home.locked():
        start_logging(settings, "agent")
        run_until_signalled(work)


@agent.command("status")
def show_status(*, json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Show what the agent last said of itself; exit status 1 when something is wrong or none runs."""
    settings = read_agent_settings()
    home = AgentHome(settings.home)
    running, status = home.running(), read_status(settings.home)
    if status is None:
        fail(f"no agent has run in {settings.home}", "start one with `commons agent run`")
    if json:
        emit_json({"running": running, **msgspec.to_builtins(status)})
    else:
        pairs("agent", _shown(status, running=running))
    if status.troubles or not running:
        raise typer.Exit(EXIT_REFUSED)


def _agent(home: AgentHome, settings: AgentSettings) -> Agent:
    gpus, how = open_gpus(home.device_secret)
    identity = home.identity()
    pace = Pace(settings.slice_ms)
    made = Agent(home, settings.server, gpus, SystemClock(), pace, settings.spool_bytes, _tell)
    _tell(f"{identity.node} reports to {settings.server}; GPUs: {how}; energy: {made.energy_source()}")
    return made


def _tell(sentence: str) -> None:
    noted(say)(f"agent: {sentence}")


def _shown(status: Status, *, running: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "running": "yes" if running else "no",
        "node": status.node,
        "server": status.server,
        "leases": len(status.leases),
        "energy source": status.energy_source,
        "clock": "trusted" if status.clock_trusted else "not trusted: nothing is metered",
        "spool": f"{status.spool_hours} hours, {status.spool_bytes} bytes",
        "not acknowledged": f"{status.unacknowledged_readings} readings",
    }
    for kind, found in status.kinds.items():
        shown[f"{kind} leased"] = f"{found.leases}: readings say {found.level:,} of {found.promised:,} {UNITS[kind]}"
    if status.sample is not None:
        shown |= _busy(status.sample)
    return shown | {f"trouble: {subject}": sentence for subject, sentence in status.troubles.items()}


def _busy(sample: Sample) -> dict[str, str]:
    """Return how busy the machine was; nothing of it is paid."""
    shown = {
        "processors": f"{sample.cpu_milli:,} milli-cores busy",
        "memory": f"{sample.memory_mib:,} MiB used",
        "all disks since boot": f"{sample.disk_read_bytes:,} bytes read, {sample.disk_written_bytes:,} written",
    }
    if sample.line is not None:
        shown |= {
            "disk": f"{sample.disk_used_mib:,} of {sample.disk_total_mib:,} MiB used, by anyone",
            "kept for leases": f"{sample.stored_bytes:,} bytes",
            "line": f"up over {', '.join(sample.line)}" if sample.line else "down: no default route that is up",
        }
    if sample.line:
        carried = f"{sample.network_sent_bytes:,} bytes sent, {sample.network_received_bytes:,} received"
        shown["line since boot"] = carried
    return shown | {gpu.device: f"{gpu.utilisation_percent} %, {gpu.memory_mib} MiB" for gpu in sample.gpus}


def _when_closed(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()
