"""A command's own connection to this home's platform, whether or not `commons up` runs beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from infra.cli.output import say
from infra.local import database
from infra.platform import Platform, open_platform
from infra.settings import read_settings

T = TypeVar("T")


def with_platform(work: Callable[[Platform], Awaitable[T]]) -> T:
    """Run `work` over the platform of this home; the embedded database is started for it when nobody else has."""

    async def main() -> T:
        settings = read_settings()
        async with database(settings, say) as dsn, open_platform(settings, dsn) as platform:
            return await work(platform)

    return asyncio.run(main())
