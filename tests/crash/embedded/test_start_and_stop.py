"""A first start, a clean stop, and what neither may leave behind."""

from __future__ import annotations

import os
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import psutil
import psycopg
import pytest

from infra.postgres.embedded_errors import (
    ServerExited,
)
from tests.crash.embedded.lab import (
    Make,
    living,
    mode,
    query,
)


async def test_a_first_start_answers_asyncpg_and_psycopg_and_is_durable(make: Make, tmp_path: Path) -> None:
    dsn = make(at=tmp_path / "first").start()  # inside a running event loop
    connection = await asyncpg.connect(dsn)
    assert (await connection.fetchval("SHOW server_version")).startswith("18.")
    for name, wanted in {
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "data_checksums": "on",
        "jit": "off",
        "server_encoding": "UTF8",
        "listen_addresses": "",
        "TimeZone": "UTC",
    }.items():
        assert await connection.fetchval(f"SHOW {name}") == wanted, name
    assert await connection.fetchval("SELECT datcollate FROM pg_database WHERE datname = current_database()") == "C"
    await connection.close()
    assert query(dsn, "SELECT 1") == 1


def test_everything_of_ours_is_private_and_the_password_shows_nowhere(make: Make, tmp_path: Path) -> None:
    server = make(at=tmp_path / "new" / "home")
    dsn = server.start()
    home = server.place.home
    for name in ("", "keys", "postgres", "postgres/data", "postgres/log", "run"):
        assert mode(home / name) == 0o700, name
    sockets = server.place.short_directory_note
    assert mode(Path(sockets.read_text()) if sockets.exists() else home / "run" / "postgres") == 0o700
    assert not sockets.exists() or mode(sockets) == 0o600
    assert mode(server.place.password_file) == 0o600
    password = server.place.password()
    assert len(password) >= 32
    assert password not in dsn
    assert server.pid is not None
    assert password not in " ".join(psutil.Process(server.pid).cmdline())
    assert password not in server.place.log_file.read_text()
    with pytest.raises(psycopg.OperationalError, match="password"):
        query(dsn.partition("&passfile=")[0], "SELECT 1")


def test_starting_twice_is_starting_once(make: Make) -> None:
    server = make()
    dsn, pid = server.start(), server.pid
    assert server.start() == dsn
    assert server.pid == pid
    assert not server.ensure_running()


def test_a_clean_stop_leaves_no_process_no_pid_file_and_no_socket(make: Make) -> None:
    server = make()
    dsn = server.start()
    with psycopg.connect(dsn):  # an open connection does not hold up the end
        server.stop()
    assert not server.is_running()
    assert living(server) == []
    assert not (server.place.data / "postmaster.pid").exists()
    assert list((server.place.run / "postgres").iterdir()) == []
    assert "database system is shut down" in server.place.log_file.read_text()
    assert not server.ensure_running(), "a stopped server stays stopped"
    assert query(server.start(), "SELECT n FROM kept") == 7


def test_the_server_has_a_session_of_its_own_so_that_ctrl_c_spares_it(make: Make) -> None:
    server = make()
    server.start()
    assert server.pid is not None
    assert os.getsid(server.pid) == server.pid != os.getsid(0)


def test_the_server_gets_none_of_our_environment(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMMONS_MASTER_KEY", "a secret")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nowhere")
    server = make()
    with psycopg.connect(server.start()) as connection:
        connection.execute("CREATE TEMP TABLE environment (line text)")
        connection.execute("COPY environment FROM PROGRAM '/usr/bin/env'")
        lines = " ".join(str(line) for (line,) in connection.execute("SELECT line FROM environment"))
    assert "PATH=" in lines
    assert "a secret" not in lines
    assert "/nowhere" not in lines


def test_the_server_listens_on_a_free_port_of_the_loopback_when_asked(make: Make) -> None:
    dsn = make(tcp=True).start()
    assert "host=127.0.0.1" in dsn
    assert query(dsn, "SHOW listen_addresses") == "127.0.0.1"


def test_a_wrong_setting_stops_the_start_with_the_servers_own_words(make: Make) -> None:
    server = make(settings={"shared_bufers": "1GB"})
    with pytest.raises(ServerExited, match="shared_bufers") as caught:
        server.start()
    assert caught.value.exit_code == 1
    make().start()  # and the home is free again


def test_a_log_that_grew_too_large_is_put_aside_while_the_server_writes_on(make: Make) -> None:
    server = make()
    dsn = server.start()
    log = server.place.log_file
    os.truncate(log, 17 * 2**20)
    assert not server.ensure_running()
    assert log.with_name("postgres.log.1").stat().st_size == 17 * 2**20
    with pytest.raises(psycopg.errors.UndefinedTable):
        query(dsn, "SELECT 1 FROM nowhere")
    assert "nowhere" in log.read_text()
    assert log.stat().st_size < 2**20
