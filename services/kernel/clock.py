"""The clock role: deadlines become commands with derived ids, so that two clocks are harmless."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from events.store import StoreUnavailable
from services.kernel.appender import Appender
from services.kernel.errors import CommonsError
from services.kernel.group import Request

_LOG: Final = logging.getLogger(__name__)


class ClockRunner:
    """Asks one service what is due and submits it."""

    def __init__(self, appender: Appender[Any], now_ms: Callable[[], int], every_seconds: float = 1.0) -> None:
        """Take the wall clock as a function (milliseconds UTC)."""
        self._appender = appender
        self._now_ms = now_ms
        self._every_seconds = every_seconds

    async def run(self) -> None:
        """Tick for ever; what is refused or unavailable now is asked again at the next tick."""
        while True:
            try:
                if await self.tick():
                    continue
            except (StoreUnavailable, CommonsError) as error:
                _LOG.info("the clock of %s waits: %s", self._appender.service.name, error)
            await asyncio.sleep(self._every_seconds)

    async def tick(self) -> int:
        """Submit everything that is due now; return how many commands that were."""
        state = await self._appender.refresh()
        due = self._appender.service.due(state, self._now_ms())
        for timed in due:
            await self._appender.submit(Request(timed.command, "clock", timed.key, timed.key.encode()))
        return len(due)
