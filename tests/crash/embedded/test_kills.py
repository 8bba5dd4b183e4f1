"""Kill -9 of the supervisor, of the server, of everything; at any moment, with any amount of WAL."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import psutil
import psycopg
import pytest

from infra.postgres.embedded_errors import (
    EmbeddedPostgresError,
)
from tests.crash.embedded.lab import (
    SMALL,
    Make,
    announced,
    kill_everything,
    living,
    query,
    supervisor_process,
    wait_until,
)


def test_a_server_whose_supervisor_was_killed_is_taken_over_without_losing_a_connection(make: Make, home: Path) -> None:
    killed = supervisor_process(home)
    pid, dsn = announced(killed)
    with psycopg.connect(dsn, autocommit=True) as connection:
        killed.kill()
        killed.wait()
        told: list[str] = []
        server = make(report=told.append)
        assert server.start() == dsn
        assert server.pid == pid
        assert any("taking over" in line for line in told)
        assert connection.execute("SELECT 1").fetchone() == (1,)
    server.stop()
    assert living(server) == []


def test_a_server_left_behind_with_other_settings_is_started_anew(make: Make, home: Path) -> None:
    killed = supervisor_process(home)
    pid, _ = announced(killed)
    killed.kill()
    killed.wait()
    server = make(settings={**SMALL, "work_mem": "9MB"})
    server.start()
    assert server.pid != pid
    assert query(server.dsn, "SHOW work_mem") == "9MB"
    assert query(server.dsn, "SELECT n FROM kept") == 7


def test_a_killed_postmaster_is_replaced_also_when_a_backend_goes_on_computing(make: Make) -> None:
    server = make()
    dsn = server.start()

    def compute() -> None:
        with pytest.raises(psycopg.OperationalError):
            query(dsn, "DO $$ BEGIN LOOP END LOOP; END $$")

    busy = threading.Thread(target=compute)
    busy.start()
    wait_until(lambda: query(dsn, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'DO %'") == 1)
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: not server.is_running())
    assert living(server), "the backend holds the shared memory"
    assert server.ensure_running()
    assert query(server.dsn, "SELECT n FROM kept") == 7
    busy.join(10)
    assert not busy.is_alive()


def crash_and_recover(make: Make, home: Path, megabytes: int) -> list[str]:
    """Write WAL with no checkpoint, commit small rows beside it, kill -9 everything, start: nothing is lost."""
    settings = {**SMALL, "max_wal_size": "20GB", "checkpoint_timeout": "1d"}
    told: list[str] = []
    server = make(at=home, settings=settings, report=told.append)
    dsn = server.start()
    query(dsn, "CREATE TABLE filler (n bigint, body text); CREATE TABLE kept (n bigint)")
    acknowledged: list[int] = []

    def commit_small_rows() -> None:
        with psycopg.connect(dsn, autocommit=True) as connection:
            try:
                for n in range(10**9):
                    connection.execute("INSERT INTO kept VALUES (%s)", (n,))
                    acknowledged.append(n)
            except psycopg.OperationalError:
                return

    writer = threading.Thread(target=commit_small_rows)
    writer.start()
    rounds = max(1, megabytes // 24)
    for _ in range(rounds):  # 20,000 rows of about 1.2 kB
        query(dsn, "INSERT INTO filler SELECT n, repeat(md5(n::text), 36) FROM generate_series(1, 20000) n")
    written = query(dsn, "SELECT (pg_current_wal_lsn() - '0/0') / 1048576")
    assert written > megabytes * 0.9  # type: ignore[operator]
    kill_everything(server)
    writer.join()

    again = make(at=home, settings=settings, report=told.append)
    server._lock.release()  # type: ignore[union-attr]  # the first supervisor is as dead as the rest
    began = time.monotonic()
    again.start()
    told.append(f"recovered {written:.0f} MiB of WAL in {time.monotonic() - began:.1f} s")
    assert query(again.dsn, "SELECT count(*) FROM filler") == rounds * 20_000
    survived = query(again.dsn, "SELECT count(*) FROM kept")
    assert len(acknowledged) > 0
    assert len(acknowledged) <= survived <= len(acknowledged) + 1  # type: ignore[operator]
    assert query(again.dsn, "SELECT max(n) + 1 FROM kept") == survived
    return told


def test_kill_everything_and_start_again_with_much_wal(make: Make, tmp_path: Path) -> None:
    told = crash_and_recover(make, tmp_path / "home", megabytes=240)
    assert any("automatic recovery in progress" in line for line in told)


@pytest.mark.soak
def test_kill_everything_and_start_again_with_a_very_large_wal(make: Make, tmp_path: Path) -> None:
    told = crash_and_recover(make, tmp_path / "home", megabytes=4000)
    assert any("redo in progress" in line for line in told), "a long recovery tells how far it is"


@pytest.mark.soak
def test_killed_twenty_times_in_a_row_while_starting_it_comes_up_whole(make: Make, home: Path) -> None:
    server = make()
    server.start()
    server.stop()
    for attempt in range(20):
        killed = supervisor_process(home)
        time.sleep(0.15 + attempt * 0.02)
        killed.kill()
        killed.wait()
        kill_everything(server)
    assert query(make().start(), "SELECT n FROM kept") == 7


def test_a_first_start_that_was_killed_in_the_middle_is_begun_again(make: Make, tmp_path: Path) -> None:
    server = make(at=tmp_path / "home")
    (server.place.draft / "base").mkdir(parents=True)
    (server.place.draft / "PG_VERSION").write_text("18\n")
    assert query(server.start(), "SELECT 1") == 1
    assert not server.place.draft.exists()


def test_a_stop_calls_off_a_start_that_waits(make: Make, home: Path) -> None:
    killed = supervisor_process(home)
    announced(killed)
    killed.kill()
    killed.wait()
    stopper = threading.Thread(target=lambda: server.stop())  # noqa: PLW0108 - it is made below

    def stop_when_the_old_server_is_ended(line: str) -> None:
        if "earlier run" in line:
            stopper.start()
            wait_until(lambda: not server._wanted)

    server = make(settings={**SMALL, "work_mem": "9MB"}, report=stop_when_the_old_server_is_ended)
    with pytest.raises(EmbeddedPostgresError, match="stopped while it was starting"):
        server.start()
    stopper.join(20)
    assert living(server) == []


def test_a_server_that_was_asked_to_end_after_its_last_client_is_not_waited_for(make: Make, home: Path) -> None:
    killed = supervisor_process(home)
    pid, dsn = announced(killed)
    killed.kill()
    killed.wait()
    with psycopg.connect(dsn):
        os.kill(pid, signal.SIGTERM)  # the smart shutdown: for ever, as long as this client stays
        server = make()
        server.start()
    assert server.pid != pid
    assert query(server.dsn, "SELECT 1") == 1


def test_a_stop_succeeds_when_the_home_was_removed_under_the_server(make: Make, tmp_path: Path) -> None:
    server = make(at=tmp_path / "home")
    server.start()
    pid = server.pid
    shutil.rmtree(server.place.home)
    server.stop()
    assert pid is not None
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
