"""This machine's clock, as the agent's parts ask for it."""

from __future__ import annotations

import time

import psutil


class SystemClock:
    """The machine's own time."""

    def now_ms(self) -> int:
        """Return milliseconds since 1970, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Return milliseconds that never go back, and stand still while the machine sleeps."""
        return time.monotonic_ns() // 1_000_000


def boot_ms() -> int:
    """Return when the machine started, in milliseconds UTC by its present clock."""
    return round(psutil.boot_time() * 1_000)
