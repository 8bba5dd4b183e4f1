"""What `commons agent status` shows: written by the running agent, read by anyone who may read its home."""

from __future__ import annotations

from pathlib import Path

import msgspec

from infra.agent.meter import Standing
from infra.agent.sampling import Sample


class Status(msgspec.Struct, frozen=True):
    """The agent as it last was. Times are milliseconds UTC; `clock_offset_ms` is what the server is ahead at least.

    `kinds` says for each kind of lease that runs what is promised and what the readings under way say, in its unit.
    """

    node: str
    owner: str
    server: str
    started_ms: int
    at_ms: int
    clock_offset_ms: int
    clock_trusted: bool
    energy_source: str
    leases: tuple[str, ...]
    last_heartbeat_minute: int | None
    spool_hours: int
    spool_bytes: int
    unacknowledged_readings: int
    troubles: dict[str, str]
    sample: Sample | None
    kinds: dict[str, Standing] = msgspec.field(default_factory=dict)


def status_path(home: Path) -> Path:
    """Return where the status lies."""
    return home / "status.json"


def read_status(home: Path) -> Status | None:
    """Return the last status, None where no agent has run."""
    path = status_path(home)
    return msgspec.json.decode(path.read_bytes(), type=Status) if path.exists() else None
