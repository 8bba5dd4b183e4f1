"""What the server has acknowledged, and what was on its way: the agent goes on from here after any end.

A batch is written down before it is sent. After a crash the very same bytes go again, so the server knows them by
their hash: nothing is lost, and nothing is recorded twice.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from infra.agent.disk import write_whole
from infra.agent.energy import EnergyReading


class HourState(msgspec.Struct):
    """One hour's spool: `acknowledged` lines from its front; `sealed` is its final hash, then it grows no more.

    `told` says that the server has its hash (or will never take it); `late` that it must travel whole.
    """

    acknowledged: int = 0
    sealed: str | None = None
    sealed_lines: int = 0
    told: bool = False
    late: bool = False
    altered: bool = False

    @property
    def done(self) -> bool:
        """Tell whether nothing of the hour has to go any more."""
        return self.sealed is not None and self.told and (self.altered or self.acknowledged >= self.sealed_lines)


class Pending(msgspec.Struct, frozen=True):
    """A batch on its way: lines `first` (counted) to `last` (not counted) of an hour; `parts` 0 is an in-time batch."""

    number: int
    hour: int
    first: int
    last: int
    part: int = 0
    parts: int = 0
    energy: tuple[EnergyReading, ...] = ()


class Cursor(msgspec.Struct):
    """The whole of it, in one small file. `energy` waits for a batch in time to travel with."""

    next_number: int = 0
    hours: dict[int, HourState] = {}
    pending: list[Pending] = []
    energy: list[EnergyReading] = []

    def hour(self, hour: int) -> HourState:
        """Return an hour's state, made at the first call."""
        return self.hours.setdefault(hour, HourState())

    def done(self, hour: int) -> bool:
        """Tell whether an hour may be deleted."""
        return hour in self.hours and self.hours[hour].done

    def save(self, path: Path) -> None:
        """Write it down, durably. Raises OSError."""
        write_whole(path, msgspec.json.encode(self))


def read_cursor(path: Path) -> Cursor:
    """Return what was written down; an empty one at the first start."""
    return msgspec.json.decode(path.read_bytes(), type=Cursor) if path.exists() else Cursor()
