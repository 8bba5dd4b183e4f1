"""A pid file says nothing by itself: its process may be dead, or be any other program."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from infra.postgres import binaries, processes
from infra.postgres.embedded import EmbeddedPostgres
from infra.postgres.embedded_errors import (
    AnotherServer,
)
from tests.crash.embedded.lab import (
    ROOT,
    Make,
    kill_everything,
    query,
    wait_until,
)


def leave_stale_files(server: EmbeddedPostgres, pid: int) -> None:
    """Leave both lock files of a server as if it had had this pid when it was killed."""
    kill_everything(server)
    server._postmaster.wait(5)  # type: ignore[union-attr]
    for path in (server.place.data / "postmaster.pid", server.place.run / "postgres" / ".s.PGSQL.5432.lock"):
        lines = path.read_text().splitlines()
        path.write_text("\n".join([str(pid), *lines[1:]]) + "\n")


def test_a_pid_file_of_a_dead_process_does_not_matter(make: Make) -> None:
    server = make()
    server.start()
    dead = subprocess.Popen(["true"])
    dead.wait()
    leave_stale_files(server, dead.pid)
    assert server.ensure_running()
    assert query(server.dsn, "SELECT n FROM kept") == 7


def test_a_pid_that_now_belongs_to_an_unrelated_program_does_not_matter(make: Make) -> None:
    server = make()
    server.start()
    options = {"user": "nobody"} if ROOT else {}
    # A PostgreSQL on its own refuses to start here: a process of its own account has that pid.
    unrelated = subprocess.Popen(["sleep", "60"], **options)  # type: ignore[call-overload]
    try:
        leave_stale_files(server, unrelated.pid)
        assert server.ensure_running()
        assert query(server.dsn, "SELECT n FROM kept") == 7
        assert unrelated.poll() is None, "the unrelated program lives on"
    finally:
        unrelated.kill()
        unrelated.wait()


def test_a_pid_that_now_belongs_to_the_server_of_another_home_does_not_matter(make: Make, tmp_path: Path) -> None:
    other = make(at=tmp_path / "other")
    other.start()
    server = make()
    server.start()
    assert other.pid is not None
    leave_stale_files(server, other.pid)
    assert server.ensure_running()
    assert query(other.dsn, "SELECT 1") == query(server.dsn, "SELECT 1") == 1


def test_an_empty_pid_file_does_not_matter(make: Make) -> None:
    server = make()
    server.start()
    kill_everything(server)
    (server.place.data / "postmaster.pid").write_text("")
    assert server.ensure_running()


def test_a_server_that_someone_else_started_in_our_directory_is_refused_and_spared(make: Make) -> None:
    server = make()
    server.start()
    server.stop()
    account = binaries.server_account("nobody")
    data, sockets = server.place.data, server.place.run / "postgres"
    with processes.handed_directory(sockets, account) as (directory, descriptors):
        foreign = processes.launch(
            [binaries.locate(account) / "postgres", "-D", processes.data_argument(data, account), "-k", directory],
            data,
            account,
            output=subprocess.DEVNULL,
            descriptors=descriptors,
        )
    try:
        wait_until(
            lambda: any(path.name == "postmaster.pid" and "ready" in path.read_text() for path in data.iterdir())
        )
        with pytest.raises(AnotherServer, match=str(foreign.pid)):
            server.start()
        assert foreign.poll() is None
        assert (data / "postmaster.pid").exists()
    finally:
        foreign.send_signal(signal.SIGINT)
        foreign.wait(20)
    server.start()
