"""Faults to put into a sound home, at least one for every check of the doctor, and what the doctor has to say of it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest

from events.registry import SubjectErased
from infra.checks import home as home_checks
from infra.checks import versions
from infra.home import replace_file
from infra.key_ring import History, KeyRing
from infra.keystore_backup import export_keystore, remember_folder
from infra.platform import Platform, wall_clock_ms
from tests import history

DAY = 86_400


@dataclass
class Sound:
    """A home with its database, in order until a fault is put into it."""

    home: Path
    database: str
    platform: Platform
    patch: pytest.MonkeyPatch

    def sql(self, statement: str, *values: object) -> Any:
        with psycopg.connect(self.database, autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else None

    def record(self, service: str, kind: str) -> tuple[int, dict[str, Any]]:
        """Return position and content of the last fact of a type."""
        ((at, raw),) = self.sql(
            f"SELECT notification_id, state FROM {service}.events WHERE topic = %s ORDER BY 1 DESC LIMIT 1", kind
        )
        return at, json.loads(bytes(raw))

    def change(self, service: str, at: int, content: object) -> None:
        """Change the bytes of a fact, as somebody with the database's password could."""
        raw = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
        self.sql(f"UPDATE {service}.events SET state = %s WHERE notification_id = %s", raw, at)
        self.sql(f"DELETE FROM {service}.snapshots")


Seed = Callable[[Sound], Awaitable[None] | None]


@dataclass(frozen=True)
class Fault:
    """What is done, which check must tell it, how it stands then, and words that must be in it."""

    check: str
    verdict: str
    words: str
    seed: Seed


def _open_file(sound: Sound) -> None:
    folder = sound.home / "log"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "http.jsonl").touch()
    (folder / "http.jsonl").chmod(0o644)


def _another_operator(sound: Sound) -> None:
    ring = KeyRing(sound.home)
    ring.keys.signing("operator")
    ((member,),) = sound.sql(
        "SELECT originator_id FROM registry.events WHERE topic = 'registry.member-registered.v1' LIMIT 1"
    )
    replace_file(sound.home / "keys" / "operator.history.json", msgspec.json.encode(History(member, wall_clock_ms())))


def _old_key(sound: Sound) -> None:
    long_ago = time.time() - 400 * DAY
    KeyRing(sound.home).keys.signing("acknowledgements")
    os.utime(sound.home / "keys" / "acknowledgements.key", (long_ago, long_ago))


def _clock_off(sound: Sound) -> None:
    sound.patch.setattr(versions, "wall_clock_ms", lambda: wall_clock_ms() - 60_000)


def _fact_of_tomorrow(sound: Sound) -> None:
    tomorrow = (wall_clock_ms() + DAY * 1_000) * 1_000
    sound.sql("UPDATE metering.events SET time_us = %s WHERE notification_id = 19", tomorrow)


async def _key_of_an_erased_member(sound: Sound) -> None:
    ((member,),) = sound.sql(
        "SELECT originator_id FROM registry.events WHERE topic = 'registry.member-registered.v1' LIMIT 1"
    )
    ((version,),) = sound.sql("SELECT max(originator_version) FROM registry.events WHERE originator_id = %s", member)
    await sound.platform.subject_keys.create(member)
    told = history.History(sound.platform.stores, {("registry", member): version})
    await told.record((member, SubjectErased(member, "a.b.c")))


def _hole(sound: Sound) -> None:
    sound.sql("DELETE FROM metering.events WHERE notification_id = 11")


def _altered_readings(sound: Sound) -> None:
    at, fact = sound.record("metering", "metering.readings-recorded.v1")
    raw = json.dumps(fact).encode()  # the same content in other bytes
    sound.sql("UPDATE metering.events SET state = %s WHERE notification_id = %s", raw, at)


def _another_time(sound: Sound) -> None:
    at, fact = sound.record("metering", "metering.lease-cancelled.v1")
    sound.change("metering", at, fact | {"time": "2020-01-01T00:00:00.000000Z"})


def _another_service(sound: Sound) -> None:
    at, fact = sound.record("metering", "metering.lease-cancelled.v1")
    sound.change("metering", at, fact | {"source": fact["source"].replace("metering", "treasury")})


def _newer_fact(sound: Sound) -> None:
    at, fact = sound.record("metering", "metering.lease-cancelled.v1")
    sound.change("metering", at, fact | {"type": "metering.lease-cancelled.v9"})


def _unreadable(service: str) -> Seed:
    def seed(sound: Sound) -> None:
        sound.sql(f"UPDATE {service}.events SET state = 'no record' WHERE notification_id = 3")
        sound.sql(f"DELETE FROM {service}.snapshots")

    return seed


def _lost_version(service: str) -> Seed:
    def seed(sound: Sound) -> None:
        sound.sql(
            f"UPDATE {service}.events SET originator_version = 77 WHERE notification_id = "
            f"(SELECT max(notification_id) FROM {service}.events)"
        )
        ((at, raw),) = sound.sql(
            f"SELECT notification_id, state FROM {service}.events ORDER BY notification_id DESC LIMIT 1"
        )
        sound.change(service, at, json.loads(bytes(raw)) | {"streamversion": "77"})

    return seed


def _answer_of_nothing(service: str) -> Seed:
    return lambda sound: sound.sql(f"INSERT INTO {service}.outcomes VALUES ('lost', '', 9999, 9999, '')")


def _pool_that_does_not_add_up(sound: Sound) -> None:
    at, fact = sound.record("treasury", "treasury.epoch-settled.v1")
    fact["data"]["kept"] = str(int(fact["data"]["kept"]) + 1)
    sound.change("treasury", at, fact)


def _payment_nobody_could_make(sound: Sound) -> None:
    at, fact = sound.record("treasury", "treasury.transaction-posted.v1")
    fact["data"]["postings"][0][2] = str(10**17)
    sound.change("treasury", at, fact)


async def _backup_past_its_end(sound: Sound) -> None:
    folder = sound.home.parent / "kept-keys"
    folder.mkdir()
    remember_folder(sound.home, folder)
    await export_keystore(sound.platform.subject_keys, folder, wall_clock_ms() - 31 * DAY * 1_000)


def _disk_of_backups_away(sound: Sound) -> None:
    remember_folder(sound.home, sound.home.parent / "away")


def _no_backup(sound: Sound) -> None:
    folder = sound.home.parent / "kept-keys"
    folder.mkdir()
    remember_folder(sound.home, folder)
    (folder / "keystore-wrong.json").write_text("{}")


def _policy_that_saw_more(sound: Sound) -> None:
    sound.sql("UPDATE metering.tracking SET record_hash = '\\x00' WHERE channel = 'registry'")


def _view_that_saw_more(view: str) -> Seed:
    return lambda sound: sound.sql(
        "UPDATE views.checkpoints SET record_hash = '\\x00' WHERE follower LIKE %s", f"view/{view}.%"
    )


def _parked(sound: Sound) -> None:
    follower = next(view.follower for view in sound.platform.views if view.name == "balances")
    sound.sql(
        "INSERT INTO views.parked (follower, service, position, channel, stream, type, error, first) "
        "VALUES (%s, 'treasury', 7, 'treasury', 'book/COMPUTE', 'x', 'too large', true)",
        follower,
    )


FAULTS = (
    Fault("permissions", "broken", "http.jsonl", _open_file),
    Fault("disk", "warning", "MiB free", lambda sound: sound.patch.setattr(home_checks, "FREE_BYTES", 1 << 62)),
    Fault("disk", "broken", "MiB free", lambda sound: sound.patch.setattr(home_checks, "LEAST_FREE_BYTES", 1 << 62)),
    Fault("files", "warning", "not ours: notes.txt", lambda sound: (sound.home / "notes.txt").touch(mode=0o600)),
    Fault("files", "warning", "replaced-17", lambda sound: (sound.home / "replaced-17").mkdir(mode=0o700)),
    Fault("keys", "warning", "was cut off", lambda sound: KeyRing(sound.home).draft("operator") and None),
    Fault("keys", "broken", "the registry knows another key", _another_operator),
    Fault("keys", "warning", "older than a year: acknowledgements", _old_key),
    Fault("clock", "broken", "differ by", _clock_off),
    Fault("clock", "warning", "ahead of the clock", _fact_of_tomorrow),
    Fault("versions", "broken", "written by PostgreSQL 7", lambda s: s.sql("UPDATE instance.versions SET version = 7")),
    Fault("versions", "broken", "newer software", lambda sound: sound.sql("INSERT INTO treasury.layout VALUES (99)")),
    Fault("database", "warning", "registry_replaced_17", lambda sound: sound.sql("CREATE SCHEMA registry_replaced_17")),
    Fault("records of registry", "broken", "a version is missing", _lost_version("registry")),
    Fault("records of registry", "broken", "no record can be read", _unreadable("registry")),
    Fault("records of metering", "broken", "a hole before it", _hole),
    Fault("records of metering", "broken", "do not survive a round trip", _altered_readings),
    Fault("records of metering", "broken", "time went back", _another_time),
    Fault("records of metering", "broken", "names another service", _another_service),
    Fault("records of metering", "broken", "lease-cancelled.v9", _newer_fact),
    Fault("records of treasury", "broken", "a version is missing", _lost_version("treasury")),
    Fault("records of treasury", "broken", "no record can be read", _unreadable("treasury")),
    Fault("answers of registry", "broken", "no such facts", _answer_of_nothing("registry")),
    Fault("answers of metering", "broken", "no such facts", _answer_of_nothing("metering")),
    Fault("answers of treasury", "broken", "no such facts", _answer_of_nothing("treasury")),
    Fault("settled epochs", "broken", "is not its pool", _pool_that_does_not_add_up),
    Fault("the book", "broken", "may not go negative", _payment_nobody_could_make),
    Fault("erasures", "broken", "keys of erased members still stand", _key_of_an_erased_member),
    Fault("keystore backups", "broken", "past their end", _backup_past_its_end),
    Fault("keystore backups", "warning", "not there", _disk_of_backups_away),
    Fault("keystore backups", "warning", "keystore-wrong.json", _no_backup),
    Fault("policies", "broken", "are gone", _policy_that_saw_more),
    Fault("view balances", "broken", "1 facts are parked", _parked),
)
"""Faults of the views are made for each view there is; see `of_views`."""


def of_views(names: list[str]) -> tuple[Fault, ...]:
    """Return the fault that every view can have."""
    return tuple(Fault(f"view {name}", "broken", "was rewound", _view_that_saw_more(name)) for name in names)
