"""Answers who asks for the numbers. The library that writes them down is loaded at the first question, in a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from infra.telemetry.numbers import Key, Numbers

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

FRESH_SECONDS: Final = 1.0
"""How long an answer stands: strangers who ask all the time do not keep the database busy."""


class Scrape:
    """The text of one process's numbers."""

    def __init__(self, numbers: Numbers, gauges: Callable[[], Awaitable[Mapping[Key, int]]]) -> None:
        """Take the counted numbers, and how to look at those that are states and not counts."""
        self._numbers = numbers
        self._gauges = gauges
        self._begun_ns = time.time_ns()
        self._lock = asyncio.Lock()
        self._text: tuple[float, bytes] | None = None

    async def text(self) -> bytes:
        """Return Prometheus text that is at most FRESH_SECONDS old."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            if self._text is None or now - self._text[0] > FRESH_SECONDS:
                gauges = await self._gauges()
                write = await asyncio.to_thread(_load)
                self._text = (now, write(self._numbers, gauges, self._begun_ns))
            return self._text[1]


def _load() -> Callable[[Numbers, Mapping[Key, int], int], bytes]:
    from infra.telemetry.prometheus import text_of  # noqa: PLC0415 - nobody pays for it who does not ask

    return text_of
