"""`commons rebuild`, `commons lag` and `commons views`: what the read side stands on, and how far it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import msgspec
import typer

from events.parked import Parked
from infra.buses import move_to_bus
from infra.cli.output import EXIT_REFUSED, emit_json, fail, progress, say, table
from infra.cli.session import with_platform
from infra.following import followers
from infra.platform import Platform
from infra.postgres.view_bus import NotDrained
from projections.rebuild import Progress, Rebuild, RebuildReport
from projections.repair import Repair, RepairReport
from projections.view import View

views = typer.Typer(help="Look at facts that views could not fold, and fold them again.", no_args_is_help=True)


def rebuild(
    names: Annotated[list[str] | None, typer.Argument(metavar="VIEW...", help="Which views; all when none.")] = None,
    *,
    check: Annotated[bool, typer.Option("--check", help="Compare only; the live view stays as it is.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object with a report per view.")] = False,
) -> None:
    """Rebuild views from the facts alone, and compare them with the live ones at the same positions."""
    reports, unbuilt = with_platform(lambda platform: _rebuild_all(platform, names or [], check=check, quiet=json))
    if json:
        emit_json({"views": msgspec.to_builtins(reports), "unbuilt": unbuilt})
    else:
        rows = [
            (report.view, f"{report.facts:,}", f"{report.seconds:.2f}", report.hash_after[:16], _verdict(report))
            for report in reports
        ]
        title = "checked views" if check else "rebuilt views"
        table(title, ("view", "facts", "seconds", "hash", "against the live view"), rows)
        for report in reports:
            for each in report.differences:
                live, rebuilt = each.live or "no row", each.rebuilt or "no row"
                say(f"{report.view}.{each.table}: live {live}; from the facts {rebuilt}")
    if unbuilt:
        say(f"not built yet, so not checked: {', '.join(unbuilt)}; `commons up` builds them")
    if unbuilt or any(report.hash_before and not report.equal for report in reports):
        raise typer.Exit(EXIT_REFUSED)


def _verdict(report: RebuildReport) -> str:
    parked = f"; {report.parked:,} facts parked" if report.parked else ""
    if not report.hash_before:
        return f"there was none{parked}"
    if report.equal:
        return f"equal{parked}"
    return f"DIFFERENT{'; the rebuilt one is live now' if report.swapped else ''}{parked}"


async def _rebuild_all(
    platform: Platform, names: list[str], *, check: bool, quiet: bool
) -> tuple[list[RebuildReport], list[str]]:
    """Return a report per view, and which of all views there is nothing to check of: a view that is named must be."""
    chosen, unbuilt = _named(platform, names), []
    if check and not names:
        unbuilt = [view.name for view in chosen if not await platform.view_store.stands(view)]
    reports = [await _rebuild(platform, view, check=check, quiet=quiet) for view in chosen if view.name not in unbuilt]
    return reports, unbuilt


def _named(platform: Platform, names: list[str]) -> list[View]:
    """Return the views of these names, all when there are none."""
    known = {view.name: view for view in platform.views}
    if unknown := [name for name in names if name not in known]:
        fail(f"there is no view {unknown[0]!r}", f"there are {', '.join(known)}")
    return [known[name] for name in names or known]


async def _rebuild(platform: Platform, view: View, *, check: bool, quiet: bool) -> RebuildReport:
    with progress(quiet=quiet) as display:
        task = display.add_task(f"{'check' if check else 'rebuild'} {view.name}", total=None)

        def tell(step: Progress) -> None:
            display.update(task, completed=step.done, total=step.total)

        work = Rebuild(view, platform.view_store, platform.stores, platform.catalog, tell)
        return await (work.check() if check else work.run())


@views.command("parked")
def parked(*, json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Show the streams of which views have parked facts, and why."""
    alarms = with_platform(lambda platform: platform.view_store.alarms())
    if json:
        emit_json({"alarms": msgspec.to_builtins(alarms)})
        return
    _show(alarms)


def _show(alarms: Sequence[Parked]) -> None:
    rows = [(each.follower, each.service, each.stream, each.position, each.type, each.error) for each in alarms]
    table("parked facts", ("view", "service", "stream", "from position", "type", "error"), rows)


@views.command("move")
def move(*, json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False) -> None:
    """Let all views go on along the bus that COMMONS_BUS names now; every other process must have been stopped."""
    try:
        moved = with_platform(lambda platform: move_to_bus(platform.settings, platform.dsn))
    except NotDrained as error:
        fail(str(error))
    if json:
        emit_json({"moved": moved})
    else:
        say(f"{moved} views go on along the bus of the settings")


@views.command("repair")
def repair(
    names: Annotated[list[str] | None, typer.Argument(metavar="VIEW...", help="Which views; all when none.")] = None,
    *,
    json: Annotated[bool, typer.Option("--json", help="One JSON object with a report per view.")] = False,
) -> None:
    """Fold parked facts again, in order; exit status 1 when some still cannot be folded."""
    reports = with_platform(lambda platform: _repair_all(platform, names or []))
    if json:
        emit_json({"views": msgspec.to_builtins(reports)})
    else:
        rows = [(report.view, f"{report.folded:,}", f"{report.parked:,}") for report in reports]
        table("repaired views", ("view", "folded", "still parked"), rows)
        if alarms := [alarm for report in reports for alarm in report.alarms]:
            _show(alarms)
    if any(report.parked for report in reports):
        raise typer.Exit(EXIT_REFUSED)


async def _repair_all(platform: Platform, names: list[str]) -> list[RepairReport]:
    return [
        await Repair(view, platform.view_store, platform.stores, platform.catalog).run()
        for view in _named(platform, names)
        if names or await platform.view_store.stands(view)
    ]


def lag(
    *, json: Annotated[bool, typer.Option("--json", help="One JSON object with a row per follower.")] = False
) -> None:
    """Show how far every follower is behind the facts."""
    rows = with_platform(followers)
    if json:
        emit_json({"followers": msgspec.to_builtins(rows)})
        return
    columns = ("follower", "channel", "position", "head", "behind", "parked")
    table("followers", columns, [(r.follower, r.channel, r.position, r.head, r.behind, r.parked) for r in rows])
    if any(row.parked for row in rows):
        say("Some followers have parked facts: see 'commons parked list'.")
