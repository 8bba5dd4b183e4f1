"""`commons backup` and `commons restore`: one file out, one file in, and the proof that nothing differs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from events.facts import FACTS_BY_SERVICE
from infra.backup.archive import Reader
from infra.backup.manifest import DATABASE, BackupRefused, Manifest
from infra.backup.restore import Restored, Target, restore_all, restore_facts
from infra.backup.take import file_in, take
from infra.cli.output import emit_json, say, steps, table
from infra.home import KEYS, maintenance
from infra.local import database
from infra.platform import wall_clock_ms
from infra.settings import Settings, read_settings
from projections.catalog import views


def backup(
    target: Annotated[Path, typer.Argument(help="The archive's file, or a folder for one named after the time.")],
    *,
    without_keys: Annotated[bool, typer.Option("--without-keys", help="Leave the home's secret keys out.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The manifest as one JSON object.")] = False,
) -> None:
    """Write database, keys and the rest of the home to one file; `commons up` may go on meanwhile."""
    settings = read_settings()
    path = file_in(target, wall_clock_ms())

    async def main() -> Manifest:
        async with database(settings, say) as dsn:
            with steps(quiet=json) as tell:
                return await take(
                    settings.home,
                    dsn,
                    path,
                    services=list(FACTS_BY_SERVICE),
                    views=views(),
                    now_ms=wall_clock_ms(),
                    tell=tell,
                    with_keys=not without_keys,
                )

    manifest = asyncio.run(main())
    if json:
        emit_json({"file": str(path.resolve()), "manifest": msgspec.to_builtins(manifest)})
        return
    heads = [(f"facts of {name}", f"{head.position:,}", head.record_hash[:16]) for name, head in manifest.heads.items()]
    parts = [
        (part.what if part.name == DATABASE else part.name, f"{part.size:,} bytes", part.sha256[:16])
        for part in manifest.parts
    ]
    table(f"{path}", ("holds", "how much", "SHA-256"), [*heads, *parts])
    keys = any(part.name.startswith(f"{KEYS}/") for part in manifest.parts)
    say("it holds secret keys in the clear: keep it where only you can read it" if keys else "it holds no keys")


def restore(
    file: Annotated[Path, typer.Argument(help="An archive made by `commons backup`.")],
    *,
    facts_only: Annotated[
        bool, typer.Option("--facts-only", help="Bring back the facts alone; keys and views of this home stay.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Put what stands there aside first (nothing is deleted).")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Restore FILE into an empty home, or its facts into this one; nothing may run here meanwhile."""
    settings = read_settings()
    done = asyncio.run(_restore(settings, file, facts_only=facts_only, force=force, quiet=json))
    if json:
        emit_json(
            {
                "heads": msgspec.to_builtins(done.heads),
                "equal_views": done.equal_views,
                "other_views": done.other_views,
                "aside": done.aside,
            }
        )
        return
    rows = [(f"facts of {name}", f"{head.position:,}", head.record_hash[:16]) for name, head in done.heads.items()]
    rows += [(f"view {name}", "equal", "") for name in done.equal_views]
    table("restored and compared", ("what", "how far", "record hash"), rows)
    if done.aside:
        say(f"what stood there is kept as {done.aside}: remove it when you need it no more")
    if facts_only:
        say("views that have seen more stop with StoreRewound: `commons rebuild` makes them anew")


async def _restore(settings: Settings, file: Path, *, facts_only: bool, force: bool, quiet: bool) -> Restored:
    target = Target(
        settings.home,
        lambda: database(settings, say, borrow=False, checked=facts_only),
        list(FACTS_BY_SERVICE),
        views(),
        str(wall_clock_ms()),
    )
    try:
        with file.open("rb") as raw, steps(quiet=quiet) as tell:
            archive = Reader(raw, tell)
            with maintenance(settings.home):
                return await (restore_facts if facts_only else restore_all)(target, archive, force=force)
    except OSError as error:
        raise BackupRefused(f"{error.filename or file}: {error.strerror}") from error
