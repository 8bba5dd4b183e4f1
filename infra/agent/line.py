"""The line of this machine: the interfaces its default routes lead over, as far as they are up, and what they carried.

Linux tells its routes under /proc. Where none can be read nobody can say that there is a line: it counts as down.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

NET: Final = Path("/proc/self/net")
LOOPBACK: Final = "lo"
_NOWHERE: Final = "00000000"
_UP: Final = 0x1
_REJECT: Final = 0x200


@dataclass(frozen=True, slots=True)
class Line:
    """The interfaces that are up and have a default route, none where the line is down, and their bytes since boot."""

    interfaces: tuple[str, ...]
    sent_bytes: int = 0
    received_bytes: int = 0

    @property
    def up(self) -> bool:
        """Tell whether there is a way out."""
        return bool(self.interfaces)


def look_at_line(net: Path = NET) -> Line:
    """Return the line as it is; `net` is the folder in which the kernel tells its routes."""
    states, counters = psutil.net_if_stats(), psutil.net_io_counters(pernic=True)
    names = tuple(sorted(name for name in default_routes(net) if name in states and states[name].isup))
    counted = [counters[name] for name in names if name in counters]
    return Line(names, sum(one.bytes_sent for one in counted), sum(one.bytes_recv for one in counted))


def default_routes(net: Path) -> set[str]:
    """Return the interfaces that a default route of IPv4 or IPv6 leads over; one that rejects leads nowhere."""
    return {*_routes(net / "route", _default4), *_routes(net / "ipv6_route", _default6)} - {LOOPBACK}


def _default4(fields: list[str]) -> str | None:
    """Read Iface, Destination, Gateway, Flags, RefCnt, Use, Metric, Mask."""
    name, destination, flags, mask = fields[0], fields[1], fields[3], fields[7]
    return name if destination == mask == _NOWHERE and _leads(flags) else None


def _default6(fields: list[str]) -> str | None:
    """Read destination, its prefix, source, its prefix, next hop, metric, two counters, flags, and the interface."""
    destination, prefix, flags, name = fields[0], fields[1], fields[8], fields[9]
    return name if not int(destination, 16) and not int(prefix, 16) and _leads(flags) else None


def _leads(flags: str) -> bool:
    return int(flags, 16) & (_UP | _REJECT) == _UP


def _routes(path: Path, default: Callable[[list[str]], str | None]) -> Iterator[str]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            name = default(line.split())
        except (IndexError, ValueError):
            continue  # the line of headings
        if name is not None:
            yield name
