"""From an empty instance, or one that was left half-way, to paid epochs: founding first, then the import."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack

from events.genesis import Community
from infra.api import HttpApi
from infra.founding import found, founded
from infra.local import Say, database, local_url, processes, ready
from infra.openb.report import Report
from infra.openb.run import Import, ImportRefused
from infra.platform import CHILDREN, open_platform
from infra.settings import Settings
from services.registry.genesis import check, sha256


async def import_history(
    settings: Settings, community: Community, make: Callable[[HttpApi], Import], say: Say, *, url: str | None = None
) -> Report:
    """Found the community where this home is empty, go on where it is the same, and run the import.

    Uses the instance at `url`, or the one that runs here, or starts one for the time of the import.
    Raises ImportRefused where another community lives, or nothing answers at `url`.
    """
    async with AsyncExitStack() as stack:
        base = url.rstrip("/") if url else local_url(settings)
        if not await ready(base):
            if url:
                raise ImportRefused(f"nothing answers at {url}: start it with `commons up`, or leave --url out")
            await stack.enter_async_context(processes(settings, CHILDREN, say))
        await ensure_founded(settings, community, say)
        api = HttpApi(base, base if url else settings.public_url, sha256(community))
        await stack.enter_async_context(api)
        return await make(api).run()


async def ensure_founded(settings: Settings, community: Community, say: Say) -> None:
    """Found the community unless this very one is there. Raises ImportRefused."""
    problems = check(community)
    if problems:
        raise ImportRefused("the genesis of this import is not sound: " + "; ".join(problems))
    async with database(settings, say) as dsn, open_platform(settings, dsn) as platform:
        there = await founded(platform)
        if there is not None and there.sha256 != sha256(community):
            raise ImportRefused(
                f"this instance was founded as {there.community.name!r}, not by this import with these files, "
                "this origin and this operator's key: choose an empty COMMONS_HOME"
            )
        await found(platform, community)
