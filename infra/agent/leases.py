"""The leases this node has to serve, as the server's view tells them; kept on disk, because an outage may be long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from infra.agent.disk import write_whole


class HeldLease(msgspec.Struct, frozen=True):
    """A lease on this node: on which devices, at which share, from when until when (milliseconds UTC).

    One of storage names its content: its share is that content's MB, rounded up.
    """

    lease: str
    kind: str
    devices: tuple[str, ...]
    share: int
    start_ms: int
    end_ms: int
    content_root: str = ""
    content_bytes: int = 0


def lease_of(row: Mapping[str, Any], cpu_device: str) -> HeldLease | None:
    """Return a row of the view as a lease; None for one that is not known whole yet.

    One that only holds cores names no device: its readings are of the node's own cpu device.
    """
    if row["start_ms"] is None or row["end_ms"] is None:
        return None
    devices = tuple(str(device["device"]) for device in row["devices"]) or (cpu_device,)
    cancelled = row["cancelled_ms"]
    end = row["end_ms"] if cancelled is None else min(row["end_ms"], cancelled)
    content = (row.get("content_root") or "", row.get("content_bytes") or 0)
    return HeldLease(row["lease"], row["kind"], devices, row["share"], row["start_ms"], end, *content)


def write_leases(path: Path, leases: Iterable[HeldLease]) -> None:
    """Keep the leases for the next start. Raises OSError."""
    write_whole(path, msgspec.json.encode(sorted(leases, key=lambda lease: lease.lease)))


def read_leases(path: Path) -> tuple[HeldLease, ...]:
    """Return the leases that were kept."""
    return msgspec.json.decode(path.read_bytes(), type=tuple[HeldLease, ...]) if path.exists() else ()
