"""Turns leases and the passing of time into readings in the spool.

The provider's reading is the allocated level: the lease's share while it is served, 0 for a slice in which it was not.
A GPU serves while it answers, storage while the whole content is kept, bandwidth while the line is up. How busy the
device was is another column and never mixed with it (METERING). A reading is written once its slice is over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from events.spool import spool_line
from events.values import HOUR_MS
from infra.agent.leases import HeldLease
from infra.agent.slicing import last_end, slices, widened
from infra.agent.spool import Spool, read_line

MOST_LEASE_HOURS: Final = 26
"""A lease lasts a day at most; where its readings stand is looked up in the spool of so many hours."""

Pair = tuple[str, str]
"""A device and a lease."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The leases of a kind that run at a moment: how many, what they are promised, what their next readings say."""

    leases: int
    promised: int
    level: int


@dataclass
class Meter:
    """Writes readings for what this node has promised.

    `up_since_ms` is since when this agent can say that the machine was up; `first_open(now_ms)` returns the first hour
    that still takes lines; `down` says of devices and leases when they were last seen not to be served.
    """

    spool: Spool
    slice_ms: int
    up_since_ms: int
    first_open: Callable[[int], int]
    leases: tuple[HeldLease, ...] = ()
    down: dict[str, int] = field(default_factory=dict)
    until: dict[Pair, int] = field(default_factory=dict)

    def note(self, down: Iterable[str], now_ms: int) -> None:
        """Keep in mind which devices and leases are not served now; no longer than a lease may last."""
        kept = {name: min(at, now_ms) for name, at in self.down.items() if at > now_ms - MOST_LEASE_HOURS * HOUR_MS}
        self.down = kept | dict.fromkeys(down, now_ms)

    def standing(self, now_ms: int) -> dict[str, Standing]:
        """Return what stands of the leases that run, by kind; levels in the kind's thousandths, of all devices."""
        found: dict[str, Standing] = {}
        for lease in self.leases:
            if lease.start_ms <= now_ms < lease.end_ms:
                before = found.get(lease.kind, Standing(0, 0, 0))
                levels = [self._level(device, lease, self._start(device, lease, now_ms)) for device in lease.devices]
                promised = before.promised + lease.share * len(levels)
                found[lease.kind] = Standing(before.leases + 1, promised, before.level + sum(levels))
        return found

    def recall(self, now_ms: int) -> None:
        """Find in the spool how far each device and lease has been metered. Raises SpoolAltered."""
        for hour in self.spool.hours():
            if hour >= now_ms // HOUR_MS - MOST_LEASE_HOURS:
                for device, lease, _, end, _ in map(read_line, self.spool.lines(hour)):
                    self.until[device, lease] = max(end, self.until.get((device, lease), 0))

    def write(self, now_ms: int, *, flush: bool = False) -> int:
        """Write every slice that is over (with `flush`, the one under way too); return the lines written.

        Raises SpoolFull: what was written stands, the rest is written the next time.
        """
        pairs = [(device, lease) for lease in self.leases for device in lease.devices]
        slice_ms = widened(self.slice_ms, sum(lease.end_ms > now_ms >= lease.start_ms for _, lease in pairs))
        lines: dict[int, list[tuple[Pair, int, bytes]]] = defaultdict(list)
        for device, lease in pairs:
            for start, end in self._due(device, lease, now_ms, slice_ms, flush=flush):
                line = spool_line(device, lease.lease, start, end, self._level(device, lease, start))
                lines[start // HOUR_MS].append(((device, lease.lease), end, line))
        for hour in sorted(lines):
            self.spool.append(hour, [line for _, _, line in lines[hour]])
            for pair, end, _ in lines[hour]:
                self.until[pair] = end
        return sum(map(len, lines.values()))

    def _due(
        self, device: str, lease: HeldLease, now_ms: int, slice_ms: int, *, flush: bool
    ) -> Iterable[tuple[int, int]]:
        end = min(now_ms, lease.end_ms)
        if end < lease.end_ms and not flush:
            end = last_end(end, slice_ms)
        return slices(self._start(device, lease, now_ms), end, slice_ms)

    def _start(self, device: str, lease: HeldLease, now_ms: int) -> int:
        """Return where the next reading of a device and lease begins."""
        return max(
            lease.start_ms,
            self.up_since_ms,
            self.first_open(now_ms) * HOUR_MS,
            self.until.get((device, lease.lease), 0),
        )

    def _level(self, device: str, lease: HeldLease, start_ms: int) -> int:
        """Return what a reading from `start_ms` on says: nothing when it was seen not to be served since then."""
        last = max(self.down.get(device, -1), self.down.get(lease.lease, -1))
        return 0 if last >= start_ms else lease.share
