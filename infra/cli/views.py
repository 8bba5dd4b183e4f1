"""`commons rebuild` and `commons lag`: what the read side stands on, and how far it is."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from infra.cli.output import EXIT_REFUSED, emit_json, fail, progress, table
from infra.cli.session import with_platform
from infra.platform import Platform
from projections.lag import Lag, PolicyPlace
from projections.lag import lag as measure
from projections.rebuild import Progress, Rebuild, RebuildReport
from projections.view import View


def rebuild(
    names: Annotated[list[str] | None, typer.Argument(metavar="VIEW...", help="Which views; all when none.")] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="One JSON object with a report per view.")] = False,
) -> None:
    """Rebuild views from the facts alone, and compare them with the live ones at the same positions."""
    reports = with_platform(lambda platform: _rebuild_all(platform, names or [], quiet=json))
    if json:
        emit_json({"views": msgspec.to_builtins(reports)})
    else:
        rows = [
            (report.view, f"{report.facts:,}", f"{report.seconds:.2f}", report.hash_after[:16], _verdict(report))
            for report in reports
        ]
        table("rebuilt views", ("view", "facts", "seconds", "hash", "against the live view"), rows)
    if any(report.hash_before and not report.equal for report in reports):
        raise typer.Exit(EXIT_REFUSED)


def _verdict(report: RebuildReport) -> str:
    if not report.hash_before:
        return "there was none"
    return "equal" if report.equal else "DIFFERENT; the rebuilt one is live now"


async def _rebuild_all(platform: Platform, names: list[str], *, quiet: bool) -> list[RebuildReport]:
    known = {view.name: view for view in platform.views}
    if unknown := [name for name in names if name not in known]:
        fail(f"there is no view {unknown[0]!r}", f"there are {', '.join(known)}")
    return [await _rebuild(platform, known[name], quiet=quiet) for name in names or known]


async def _rebuild(platform: Platform, view: View, *, quiet: bool) -> RebuildReport:
    with progress(quiet=quiet) as display:
        task = display.add_task(f"rebuild {view.name}", total=None)

        def tell(step: Progress) -> None:
            display.update(task, completed=step.done, total=step.total)

        return await Rebuild(view, platform.view_store, platform.stores, platform.catalog, tell).run()


def lag(
    *, json: Annotated[bool, typer.Option("--json", help="One JSON object with a row per follower.")] = False
) -> None:
    """Show how far every follower is behind the facts."""
    rows = with_platform(followers)
    if json:
        emit_json({"followers": msgspec.to_builtins(rows)})
        return
    columns = ("follower", "channel", "position", "head", "behind")
    table("followers", columns, [(r.follower, r.channel, r.position, r.head, r.behind) for r in rows])


async def followers(platform: Platform) -> list[Lag]:
    """Return the delay of every view and policy."""
    policies = [
        PolicyPlace(name, policy.name, policy.source)
        for name, service in platform.services.items()
        for policy in service.policies
    ]
    return await measure(platform.stores, platform.views, platform.view_store, policies)
