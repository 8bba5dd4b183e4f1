"""`commons keystore`: back up, take back, end and rewrap the keys of sealed personal data, apart from the facts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.cli.output import emit_json, say
from infra.cli.session import with_platform
from infra.keystore_backup import DAYS, expire_keystore_backups, export_keystore, import_keystore, remember_folder
from infra.platform import Platform, wall_clock_ms

keystore = typer.Typer(help="The keys of sealed personal data: backups that end, and a new master key.")

Json = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@keystore.command("export")
def export(folder: Annotated[Path, typer.Argument(help="Where to.", file_okay=False)], *, json: Json = False) -> None:
    """Write all keys to a secret file in FOLDER, and destroy those there that have ended."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    now_ms = wall_clock_ms()
    ended = expire_keystore_backups(folder, now_ms)
    path = with_platform(lambda platform: _exported(platform, folder, now_ms))
    if json:
        emit_json({"file": str(path), "ended": [str(each) for each in ended]})
        return
    say(f"{path} holds the keys in the clear and ends in {DAYS} days; {len(ended)} older ones ended")


async def _exported(platform: Platform, folder: Path, now_ms: int) -> Path:
    """Remember the folder first: a file nobody would look for again must not lie there."""
    remember_folder(platform.settings.home, folder)
    return await export_keystore(platform.subject_keys, folder, now_ms)


@keystore.command("import")
def take_back(file: Annotated[Path, typer.Argument(help="The backup.", exists=True)], *, json: Json = False) -> None:
    """Take keys back that are missing here; whoever was erased stays erased."""

    async def work(platform: Platform) -> int:
        known = await platform.feed.current()
        return await import_keystore(platform.subject_keys, file, known.members, known.erased, wall_clock_ms())

    count = with_platform(work)
    emit_json({"restored": count}) if json else say(f"{count} keys were missing and are back")


@keystore.command("expire")
def expire(folder: Annotated[Path, typer.Argument(help="Where the backups lie.")], *, json: Json = False) -> None:
    """Destroy the backups in FOLDER that have ended, as the role `clock` does every hour by itself."""
    ended = [str(path) for path in expire_keystore_backups(folder, wall_clock_ms())]
    emit_json({"ended": ended}) if json else say(f"{len(ended)} backups ended")


@keystore.command("rewrap")
def rewrap(*, json: Json = False) -> None:
    """Wrap all keys with a new master key and destroy the old one, as after a theft of the home's keys."""
    count = with_platform(lambda platform: platform.subject_keys.rewrap())
    emit_json({"wrapped": count}) if json else say(f"{count} keys are wrapped by a new master key")
