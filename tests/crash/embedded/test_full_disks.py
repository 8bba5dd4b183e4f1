"""A disk that is full is told as such, and costs nothing that was acknowledged."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from infra.postgres.embedded_errors import (
    DiskFull,
)
from tests.crash.embedded.lab import (
    SMALL,
    Make,
    kill_everything,
    query,
)


def test_a_disk_too_small_for_a_new_database_is_told_and_nothing_half_made_stays(
    make: Make, small_disk: Callable[[int], Path]
) -> None:
    server = make(at=small_disk(20) / "home")
    with pytest.raises(DiskFull, match="No space"):
        server.start()
    assert not server.place.data.exists()
    assert not server.place.draft.exists()


@pytest.mark.parametrize("depth", [1, 60])
def test_a_disk_that_fills_up_loses_nothing_and_goes_on_when_there_is_room_again(
    make: Make, small_disk: Callable[[int], Path], depth: int
) -> None:
    disk = small_disk(160)
    home = disk / f"home-{'x' * depth}"  # a path too long for a socket needs a note on the same full disk
    server = make(at=home, settings={**SMALL, "max_wal_size": "64MB", "min_wal_size": "32MB"})
    dsn = server.start()
    query(dsn, "CREATE TABLE kept (n bigint, body text)")
    ballast = disk / "ballast"
    ballast.write_bytes(b"\0" * (shutil.disk_usage(disk).free - 12 * 2**20))
    acknowledged = 0
    with suppress(psycopg.Error):  # the table cannot grow (an error), or the WAL cannot (a crash)
        for _ in range(1000):
            query(dsn, "INSERT INTO kept SELECT 1, repeat(md5(n::text), 30) FROM generate_series(1, 200) n")
            acknowledged += 200
    assert 0 < acknowledged < 200_000, "the disk was full at some point"
    kill_everything(server)
    server.stop()
    with suppress(OSError), ballast.open("ab", buffering=0) as file:  # to the last byte: no room for a pid file
        while file.write(b"\0" * 4096):
            pass
    with pytest.raises(DiskFull, match="Free some space"):
        server.start()
    ballast.unlink()
    assert query(server.start(), "SELECT count(*) FROM kept") == acknowledged
