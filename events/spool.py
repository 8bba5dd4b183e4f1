r"""The spool of a node: one file per UTC hour, one reading a line, and the hash chain over its lines (METERING).

A line is the canonical JSON array `["<device id>","<lease id>",start_ms,end_ms,level]` and a line feed. `hour` is the
whole number of hours since 1970, UTC. With h0 = SHA-256("commons.spool/1\n" + node + "\n" + hour + "\n") every line
makes h = SHA-256(h || line). What a hash was told to somebody in time, no line before it can be changed afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec

MINUTES: Final = 60
"""Minutes of an hour: bits of its map of heartbeats."""


def spool_line(device: str, lease: str, start_ms: int, end_ms: int, level: int) -> bytes:
    """Return a reading as it stands in the spool; times in milliseconds UTC, the level in milli."""
    return msgspec.json.encode((device, lease, start_ms, end_ms, level)) + b"\n"


def spool_start(node: str, hour: int) -> bytes:
    """Return the 32 bytes an hour's chain begins with."""
    return hashlib.sha256(f"commons.spool/1\n{node}\n{hour}\n".encode()).digest()


def spool_next(running: bytes, line: bytes) -> bytes:
    """Return the chain's 32 bytes after one more line."""
    return hashlib.sha256(running + line).digest()


def spool_hash(node: str, hour: int, lines: Iterable[bytes]) -> bytes:
    """Return the chain's 32 bytes over all lines of an hour."""
    running = spool_start(node, hour)
    for line in lines:
        running = spool_next(running, line)
    return running


def minutes_text(minutes: int) -> str:
    """Return the 60-bit map of an hour's minutes as it is signed: minute i counts 2^i, 15 hex digits."""
    assert 0 <= minutes < 1 << MINUTES, minutes
    return f"{minutes:015x}"
