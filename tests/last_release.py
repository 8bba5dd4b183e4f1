"""What the last release left behind: a small community's facts and tables, written by that software and never again.

`facts.jsonl` holds every record, one per line, services one after the other; `database.sql` everything else its
database held, as plain SQL; `expected.json` what that software said of it: the views' hashes and the heads.
They are kept as `tests/golden/keep_release.py` does it. The community is our own making, its keys are no secrets.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import psycopg
from eventsourcing.persistence import Notification

from events.envelope import decode_envelope, time_us
from events.store import Head
from infra.memory import MemoryLog, MemoryStore

FOLDER: Final = Path(__file__).parent / "golden" / "last_release"
SERVICES: Final = ("registry", "metering", "treasury")


@dataclass(frozen=True)
class Expected:
    """What the last release said of the data."""

    inputs_key: str
    heads: dict[str, int]
    views: dict[str, dict[str, Any]]


@cache
def expected() -> Expected:
    found = json.loads((FOLDER / "expected.json").read_text())
    return Expected(found["inputs_key"], found["heads"], found["views"])


@cache
def records() -> tuple[bytes, ...]:
    return tuple((FOLDER / "facts.jsonl").read_bytes().splitlines())


def rows() -> Iterator[tuple[str, Notification, int]]:
    """Yield service, record and time (microseconds) of every fact in order."""
    for raw in records():
        found = decode_envelope(raw)
        at = Notification(found.subject, int(found.streamversion), found.type, raw, int(found.position))
        yield found.service, at, time_us(found.time)


def in_memory() -> dict[str, MemoryStore]:
    """Return stores that hold the facts."""
    logs = {service: MemoryLog() for service in SERVICES}
    for service, at, us in rows():
        log = logs[service]
        log.records.append(at)
        log.head = Head(at.id, us, hashlib.sha256(at.state).digest())
        log.streams.setdefault(at.originator_id, []).append(len(log.records) - 1)
        log.versions[at.originator_id] = at.originator_version
    return {service: MemoryStore(service, log=log) for service, log in logs.items()}


def pour(database: str) -> None:
    """Give an empty database what the last release's held, in that release's tables."""
    with psycopg.connect(database) as connection:
        connection.execute((FOLDER / "database.sql").read_bytes())
        for service, at, us in rows():
            connection.execute(
                f"INSERT INTO {service}.events VALUES (%s, %s, %s, %s, %s, %s)".encode(),
                (at.originator_id, at.originator_version, at.topic, at.state, at.id, us),
            )


def keys(home: Path) -> None:
    """Give an empty home the key its database was begun with."""
    home.mkdir(mode=0o700)
    (home / "keys").mkdir(mode=0o700)
    (home / "keys" / "inputs.key").touch(mode=0o600)
    (home / "keys" / "inputs.key").write_text(expected().inputs_key)
