"""What the agent keeps and how it ends and begins: spool, cursor and mark, hours that are closed, room that is made."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from events.values import HOUR_MS
from infra.agent.cursor import read_cursor
from infra.agent.energy import EnergyReading
from infra.agent.home import AgentHome, Mark
from infra.agent.leases import read_leases
from infra.agent.meter import Meter
from infra.agent.spool import Spool, SpoolAltered, SpoolFull
from infra.agent.troubles import Troubles

CONTINUES_MS: Final = 300_000
"""A restart within this time, without a reboot, goes on as if it had not been away: the machine was up, we know."""

SEAL_AFTER_MS: Final = 600_000
"""An hour takes lines this long after its end, for leases that were heard of late; then its hash is final."""

SEAL_LATEST_MS: Final = 3_000_000
"""While readings wait for room on the disk, an hour stays open until then: its hash has to be told within the hour."""

KEPT_HOURS: Final = 35 * 24
"""Nothing can be claimed for older readings (METERING)."""

FILLED_PERCENT: Final = 90
MOST_ENERGY: Final = 10_000


class Books:
    """Everything one agent writes down about its readings. The home is locked by the caller."""

    def __init__(self, home: AgentHome, slice_ms: int, spool_bytes: int, now_ms: int, troubles: Troubles) -> None:
        """Open what is there."""
        self._home, self._troubles, self._limit_bytes = home, troubles, spool_bytes
        self.cursor_path: Path = home.path / "cursor.json"
        self.cursor = read_cursor(self.cursor_path)
        self.spool = Spool(home.path / "spool", home.identity().node, spool_bytes)
        kept = read_leases(home.path / "leases.json")
        self.meter = Meter(self.spool, slice_ms, now_ms, self.first_open, kept)
        self.last_ms = now_ms
        self._roomy_hour = 0

    def resume(self, now_ms: int, boot_ms: int) -> None:
        """Go on where the last run ended; what it could still vouch for is written first."""
        mark = self._home.mark()
        for hour, lines, sha256 in mark.heads if mark else ():
            if self.spool.head_after(hour, lines).sha256 != sha256:
                self.cursor.hour(hour).altered = True
                self._troubles.set(f"spool of hour {hour}", "altered since it was written; it is not sent")
        try:
            self.meter.recall(now_ms)
        except SpoolAltered as error:
            self._troubles.set("spool file", f"altered: {error}")
        if mark is None or mark.at_ms > now_ms:
            return
        self.meter.up_since_ms = mark.up_since_ms
        self.meter.down = mark.down | self.meter.down
        if now_ms - mark.at_ms > CONTINUES_MS or boot_ms > mark.at_ms:
            self.write(mark.at_ms, flush=True)
            self.meter.up_since_ms = now_ms

    def advance(self, now_ms: int) -> None:
        """Write every reading that is over, and close the hours that take no more. Raises OSError."""
        if now_ms - self.last_ms > CONTINUES_MS:
            # The machine slept, or its clock was wrong for so long: nobody can vouch for that time.
            self.write(self.last_ms, flush=True)
            self.meter.up_since_ms = now_ms
        self.write(now_ms)
        self.last_ms = now_ms

    def write(self, now_ms: int, *, flush: bool = False) -> None:
        """Write readings; where there is no room for them, they wait and are written later, as long as it takes."""
        try:
            try:
                self.meter.write(now_ms, flush=flush)
            except SpoolFull:
                if not self.make_room(now_ms):
                    raise
                self.meter.write(now_ms, flush=flush)
        except SpoolFull as error:
            self._troubles.set("spool", f"{error}: readings wait until there is room, heartbeats go on")
        else:
            self._troubles.set("spool", None)

    def first_open(self, now_ms: int) -> int:
        """Return the first hour that still takes lines; one that was sealed never does again."""
        wait = SEAL_LATEST_MS if "spool" in self._troubles.now else SEAL_AFTER_MS
        sealed = max((hour for hour, state in self.cursor.hours.items() if state.sealed is not None), default=-1)
        return max(sealed + 1, (now_ms - wait) // HOUR_MS)

    def seal(self, now_ms: int, beaten: set[int]) -> None:
        """Close the hours that take no more lines: those with readings, and those with heartbeats. Raises OSError."""
        first, changed = self.first_open(now_ms), False
        for hour in {*self.spool.hours(), *self.cursor.hours, *beaten}:
            if now_ms // HOUR_MS - KEPT_HOURS <= hour < first and self.cursor.hour(hour).sealed is None:
                head, state = self.spool.head(hour), self.cursor.hour(hour)
                state.sealed, state.sealed_lines, changed = head.sha256, head.lines, True
        if changed:
            self.cursor.save(self.cursor_path)

    def make_room(self, now_ms: int) -> list[int]:
        """Delete acknowledged hours, the oldest first, until a tenth of the limit is free; return those deleted."""
        target = min(self._limit_bytes, self.spool.size()) * FILLED_PERCENT // 100
        dropped = self.spool.drop(self.cursor.done, to_bytes=target)
        self._forget(now_ms)
        return dropped

    def tidy(self, now_ms: int) -> None:
        """Once an hour delete what nothing can be claimed for any more, and keep below the limit."""
        hour = now_ms // HOUR_MS
        if hour == self._roomy_hour:
            return
        self._roomy_hour = hour
        self.spool.drop(lambda each: each < hour - KEPT_HOURS, to_bytes=0)
        self.spool.drop(self.cursor.done, to_bytes=self._limit_bytes * FILLED_PERCENT // 100)
        self._forget(now_ms)

    def note_energy(self, readings: Sequence[EnergyReading]) -> None:
        """Let energy readings wait for a batch; of too many, the oldest are given up."""
        self.cursor.energy = [*self.cursor.energy, *readings][-MOST_ENERGY:]

    def keep_mark(self) -> None:
        """Write how far this agent came. Raises OSError."""
        first = self.first_open(self.last_ms)
        heads = tuple(
            (hour, self.spool.head(hour).lines, self.spool.head(hour).sha256)
            for hour in self.spool.hours()
            if hour >= first
        )
        self._home.keep_mark(Mark(self.last_ms, self.meter.up_since_ms, heads, self.meter.down))

    def _forget(self, now_ms: int) -> None:
        there = {*self.spool.hours()}
        for hour in [*self.cursor.hours]:
            if hour < now_ms // HOUR_MS - KEPT_HOURS and hour not in there:
                del self.cursor.hours[hour]
