"""`commons followers` and `commons parked`: orders to policies and views, and the facts they have set aside."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
import typer

from events.parked import Parked
from events.store import Checkpoint
from infra.cli.output import EXIT_REFUSED, emit_json, fail, say, table
from infra.cli.session import with_platform
from infra.following import Named, NoSuchFollower, alarms, followers, named
from infra.platform import Platform
from infra.postgres.orders import plain_name
from projections.repair import Repair
from services.kernel.replaying import Replay

orders = typer.Typer(help="Look at policies and views; let them rest, go on, or go back.", no_args_is_help=True)
parked = typer.Typer(help="Look at facts that could not take effect, and try them again.", no_args_is_help=True)

Names = Annotated[list[str], typer.Argument(metavar="NAME...", help="Views and policies.")]
AnyNames = Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Views and policies; all when none.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]


class Row(msgspec.Struct, frozen=True):
    """A follower on one channel, with what it is ordered to do."""

    follower: str
    channel: str
    position: int
    head: int
    behind: int
    parked: int
    paused: bool


@orders.command("list")
def show(*, json: Json = False) -> None:
    """Show every follower, how far it is behind, what it has parked, and whether it is to rest."""
    rows = with_platform(_rows)
    if json:
        emit_json({"followers": msgspec.to_builtins(rows)})
        return
    columns = ("follower", "channel", "position", "head", "behind", "parked", "order")
    cells = [(*msgspec.structs.astuple(row)[:6], "paused" if row.paused else "") for row in rows]
    table("followers", columns, cells)


async def _rows(platform: Platform) -> list[Row]:
    given = await platform.orders.all()
    paused = {follower for follower, order in given.items() if order.paused}
    return [
        Row(r.follower, r.channel, r.position, r.head, r.behind, r.parked, plain_name(r.follower) in paused)
        for r in await followers(platform)
    ]


@orders.command("pause")
def pause(names: Names, *, json: Json = False) -> None:
    """Let followers rest, in every process, until they are resumed."""
    _order(names, paused=True, json=json)


@orders.command("resume")
def resume(names: Names, *, json: Json = False) -> None:
    """Let followers go on where they stand."""
    _order(names, paused=False, json=json)


def _order(names: list[str], *, paused: bool, json: bool) -> None:
    async def work(platform: Platform) -> list[str]:
        chosen = [each.follower for each in _named(platform, names)]
        await platform.orders.pause(chosen, paused=paused)
        return chosen

    chosen = with_platform(work)
    if json:
        emit_json({"followers": chosen, "paused": paused})
    else:
        say(f"{', '.join(chosen)}: {'pauses' if paused else 'goes on'} within a few seconds")


@orders.command("rewind")
def rewind(
    name: Annotated[str, typer.Argument(help="A policy.")],
    *,
    to: Annotated[int, typer.Option("--to", min=0, help="The position after which it goes on; 0: from the first.")],
    json: Json = False,
) -> None:
    """Send a policy back: it looks at facts again, and whatever it has decided already is not decided twice."""

    async def work(platform: Platform) -> Named:
        (chosen,) = _named(platform, [name])
        if chosen.view is not None:
            fail(
                f"a view is not sent back, its rows would count facts twice: run 'commons rebuild {chosen.short}'",
                "it builds the view anew beside the live one, which goes on meanwhile",
            )
        digest = b""
        if to:
            found = await platform.stores[chosen.source].read(to - 1, 1)
            if not found:
                fail(f"{chosen.source} has no position {to}")
            digest = hashlib.sha256(found[0].state).digest()
        await platform.orders.rewind(chosen.service, Checkpoint(chosen.follower, chosen.source, to, digest))
        return chosen

    chosen = with_platform(work)
    if json:
        emit_json({"follower": chosen.follower, "position": to})
    else:
        say(f"{chosen.follower} goes on after position {to} of {chosen.source} within a few seconds")


@parked.command("list")
def show_parked(*, json: Json = False) -> None:
    """Show the streams of which views and policies have parked facts, and why."""
    found = with_platform(alarms)
    if json:
        emit_json({"alarms": msgspec.to_builtins(found)})
    else:
        _show(found)


def _show(found: Sequence[Parked]) -> None:
    rows = [(each.follower, each.service, each.stream, each.position, each.type, each.error) for each in found]
    table("parked facts", ("follower", "service", "stream", "from position", "type", "error"), rows)


class Report(msgspec.Struct, frozen=True):
    """What became of a follower's parked facts: how many took effect now, how many wait still, and why."""

    follower: str
    done: int
    parked: int
    alarms: Sequence[Parked]


@parked.command("replay")
def replay(names: AnyNames = None, *, json: Json = False) -> None:
    """Try parked facts again, in order within their streams; exit status 1 when some still wait."""
    reports = with_platform(lambda platform: _replay_all(platform, names or []))
    if json:
        emit_json({"followers": msgspec.to_builtins(reports)})
    else:
        table(
            "replayed", ("follower", "took effect", "still parked"), [(r.follower, r.done, r.parked) for r in reports]
        )
        if left := [alarm for report in reports for alarm in report.alarms]:
            _show(left)
    if any(report.parked for report in reports):
        raise typer.Exit(EXIT_REFUSED)


async def _replay_all(platform: Platform, names: list[str]) -> list[Report]:
    reports = []
    for each in _named(platform, names):
        if each.view is not None and (names or await platform.view_store.stands(each.view)):
            done = await Repair(each.view, platform.view_store, platform.stores, platform.catalog).run()
            reports.append(Report(each.follower, done.folded, done.parked, done.alarms))
        elif each.policy is not None and (await platform.asides[each.service].counts()).get(each.follower):
            async with _appending(platform, each.service):
                aside, appender = platform.asides[each.service], platform.appenders[each.service]
                redone = await Replay(each.policy, appender, platform.catalog, aside).run()
            reports.append(Report(each.follower, redone.replayed, redone.parked, redone.alarms))
    return reports


@asynccontextmanager
async def _appending(platform: Platform, service: str) -> AsyncIterator[None]:
    """Let a service's writer work in this process; beside others it waits for its turn as they do."""
    await platform.appenders[service].load()
    work = asyncio.ensure_future(platform.appenders[service].run())
    try:
        yield
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def _named(platform: Platform, names: list[str]) -> list[Named]:
    try:
        return named(platform, names)
    except NoSuchFollower as error:
        fail(str(error))
