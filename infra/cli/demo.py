"""`commons demo`: one command, and a community's GPUs are metered, scored and paid before one's eyes."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
import typer

from infra.cli.output import EXIT_INTERRUPTED, emit_json, pairs, say, steps, table
from infra.cli.up import announce, finished, first_of, run_until_signalled
from infra.demo.live import live_node
from infra.demo.play import Proofs, play, prove
from infra.local import database, local_url, processes
from infra.logs import start_logging
from infra.openb.report import Report
from infra.platform import CHILDREN, open_platform
from infra.settings import Settings, read_settings


def demo(
    *,
    serve: Annotated[bool, typer.Option("--serve", help="Keep serving afterwards, until Ctrl-C.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The account as one JSON object.")] = False,
) -> None:
    """Found the shipped community, let a day of its history happen, and print what was proved."""
    settings = read_settings()
    start_logging(settings, "demo")
    played = False

    async def work(stop: asyncio.Event) -> None:
        nonlocal played
        async with processes(settings, CHILDREN, say, stop=stop) as running:
            played = await finished(stop, asyncio.create_task(_tell(settings, json=json)))
            if played and serve:
                announce(settings, json=False)
                async with live_node(settings, say):
                    await first_of(stop, running)

    run_until_signalled(work)
    if not played:
        raise typer.Exit(EXIT_INTERRUPTED)


async def _tell(settings: Settings, *, json: bool) -> None:
    with steps(quiet=json) as tell:
        report = await play(settings, say, tell)
        async with database(settings, say) as dsn, open_platform(settings, dsn) as platform:
            proofs = await prove(platform, tell)
    _account(settings, report, proofs, json=json)


def _account(settings: Settings, report: Report, proofs: Proofs, *, json: bool) -> None:
    if json:
        emit_json({"happened": report.to_json(), "proved": _proved(proofs)})
        return
    pairs("what happened", _happened(report))
    rows: list[tuple[object, ...]] = [
        (f"view {r.view}", "rebuilt from the facts: equal" if r.equal else "rebuilt: DIFFERENT", r.hash_after[:16])
        for r in proofs.rebuilt
    ]
    rows.append(("a signed batch", f"its node's signature verifies from the log ({proofs.node})", proofs.batch[:16]))
    table("what was proved", ("what", "result", "hash"), rows)
    table("doctor", ("check", "verdict", "detail"), [(c.name, c.verdict, c.detail) for c in proofs.checks])
    url = local_url(settings)
    say(f"look around: {url}/v1/views/epochs  {url}/v1/views/balances  {url}/v1/views/audit_trail")


def _happened(report: Report) -> dict[str, str]:
    hours, part = divmod(report.verified_milli_gpu_seconds, 3_600_000)
    return {
        "nodes registered": f"{report.nodes:,} with {report.devices:,} GPUs",
        "challenge results": f"{report.challenge_results:,}",
        "leases opened": f"{report.leases:,}",
        "signed batches": f"{report.batches_sent:,} sent in disorder, {report.batches_duplicate:,} known already",
        "readings sent": f"{report.readings_sent:,}",
        "GPU-hours verified": f"{hours:,}.{part * 1_000 // 3_600_000:03d}",
        "epochs closed and paid": f"{report.epochs:,}",
        "reward pools": _compute(report.reward_pool),
        "  paid to providers": _compute(report.rewards_paid),
        "  late reserve": _compute(report.reward_reserve),
        "  kept (emission reserve)": _compute(report.reward_kept),
        "release gate": "ungated (no anchor is there yet)",
    }


def _compute(units: int) -> str:
    whole, part = divmod(units, 1_000_000)
    return f"{whole:,}.{part:06d} COMPUTE"


def _proved(proofs: Proofs) -> dict[str, Any]:
    return {
        "sound": proofs.sound,
        "views": msgspec.to_builtins(proofs.rebuilt),
        "batch": {"sha256": proofs.batch, "node": proofs.node},
        "checks": msgspec.to_builtins(proofs.checks),
    }
