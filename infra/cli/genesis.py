"""`commons genesis`: check a community's document, show what it will do, and turn it into the first facts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from events.genesis import Community
from infra.cli.output import emit_json, fail, say, table
from infra.cli.session import with_platform
from infra.founding import found, founded
from infra.genesis_file import read_community
from infra.keys import KeyDirectory, member_key
from infra.platform import Platform
from infra.settings import read_settings
from services.registry.genesis import check, sha256
from services.registry.genesis_summary import summary


def genesis(
    file: Annotated[Path, typer.Argument(help="The community's document, e.g. community.yaml.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and show only.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Found this instance's community from FILE."""
    community = load(file)
    digest = sha256(community)
    if not json:
        rows = summary(community)
        table(f"{file}  sha256 {digest}", ("part", "what", "value"), [(r.section, r.item, r.value) for r in rows])
    if dry_run:
        if json:
            emit_json({"sha256": digest, "valid": True})
        return
    position, repeated = with_platform(lambda platform: _found(platform, community))
    if json:
        emit_json({"sha256": digest, "valid": True, "position": str(position), "repeated": repeated})
    else:
        say(
            "it was founded before, from this very document" if repeated else f"founded at registry position {position}"
        )


def load(file: Path) -> Community:
    """Return a checked document; says every problem and exits when there are any."""
    home = read_settings().home
    try:
        raw = file.read_bytes()
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    # The operator's key is made at the first need: a file that names its members' own keys needs none here.
    community = read_community(raw, lambda handle: member_key(KeyDirectory(home).secret("operator"), handle).public)
    if problems := check(community):
        for problem in problems:
            say(f"  {problem}")
        fail(f"{file} is not a genesis document", f"{len(problems)} problem(s) above; nothing was written")
    return community


async def _found(platform: Platform, community: Community) -> tuple[int, bool]:
    there = await founded(platform)
    if there is not None and there.sha256 != sha256(community):
        fail(
            f"this instance was founded as {there.community.name!r} (sha256 {there.sha256})",
            "one instance holds one community: choose another COMMONS_HOME for this one",
        )
    accepted = await found(platform, community)
    return accepted.first, accepted.hit
