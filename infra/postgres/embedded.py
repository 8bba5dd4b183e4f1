"""Supervise a real PostgreSQL 18 in a directory of our own, with nothing to install and nothing to administer.

What a caller may believe:
- After `start()` the server has answered a real connection; everything that was ever committed is there. There is no
  limit on the time a start takes: a crash recovery may need minutes, says so, and is never cut off.
- After `stop()` no process and no pid file of the server is left.
- When this process is killed, the server goes on alone (its callers' work is not cut off). The next `start()` on the
  same home finds it and takes it over; when its settings differ or it is beyond answering, it is restarted.
- Two homes never touch each other: no fixed port, no shared file. Two supervisors on one home: `HomeInUse`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote, urlencode

from infra.postgres import initdb
from infra.postgres.binaries import Account, locate, server_account
from infra.postgres.embedded_errors import DataDirectoryBroken, DiskFull, EmbeddedPostgresError, PasswordRefused
from infra.postgres.embedded_settings import DEFAULTS, write_configuration
from infra.postgres.place import ROLE, HomeLock, Place
from infra.postgres.processes import (
    Postmaster,
    data_argument,
    handed_directory,
    launch,
    live_postmaster,
    mark_of,
    port_in_file,
    sweep,
)
from infra.postgres.readiness import Answer, ask, create_database
from infra.postgres.server_log import ServerLog, rotate

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]

DATABASE: Final = "commons"
_SOCKET_PORT: Final = 5432  # part of the socket's name; each server has a directory of its own


class EmbeddedPostgres:
    """One PostgreSQL server for one home; synchronous, to be called from a thread where an event loop runs."""

    def __init__(  # noqa: PLR0913 - each is a plain choice with a default
        self,
        home: Path,
        *,
        settings: Mapping[str, str] | None = None,
        tcp: bool = False,
        run_as: str = "nobody",
        report: Callable[[str], None] | None = None,
        stop_timeout_seconds: float = 60.0,
    ) -> None:
        """Touch nothing yet.

        `settings` override those of `embedded_settings`; `tcp` listens on a free port of 127.0.0.1 beside the socket;
        `run_as` is the account of the server when we are root; `report` is told about progress, one line each;
        `stop_timeout_seconds` is how long a clean stop may take before it is forced.
        """
        self._place = Place(Path(home).resolve())
        self._settings = dict(settings or {})
        self._tcp = tcp
        self._run_as = run_as
        self._report = report or logging.getLogger(__name__).info
        self._stop_timeout_seconds = stop_timeout_seconds
        self._turn = threading.RLock()
        self._wanted = False
        self._lock: HomeLock | None = None
        self._postmaster: Postmaster | None = None
        self._socket_directory: Path | None = None
        self._port = _SOCKET_PORT
        self._log = ServerLog(self._place.log_file)

    @property
    def place(self) -> Place:
        """Where the parts lie in the home."""
        return self._place

    @property
    def dsn(self) -> str:
        """The address for asyncpg, psycopg and libpq; it names the password file and does not hold the password."""
        assert self._socket_directory is not None, "start() comes first"
        query = {
            "host": "127.0.0.1" if self._tcp else str(self._socket_directory),
            "port": str(self._port),
            "passfile": str(self._place.password_file),
            "sslmode": "disable",
        }
        return f"postgresql://{ROLE}@/{DATABASE}?{urlencode(query, quote_via=quote, safe='/')}"

    @property
    def pid(self) -> int | None:
        """The process id of the server, when it runs."""
        return self._postmaster.pid if self._postmaster is not None and self.is_running() else None

    def is_running(self) -> bool:
        """Whether the server's process lives."""
        return self._postmaster is not None and self._postmaster.alive()

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.stop()

    def start(self) -> str:
        """Start the server, or take over the one that a killed supervisor left; return the DSN when it answers.

        Calling it again does nothing. Raises an `EmbeddedPostgresError`; after one, nothing is left running.
        """
        with self._turn:
            self._wanted = True
            try:
                if self._lock is None:
                    self._place.make_directories()
                    self._lock = HomeLock(self._place)
                if not self.is_running():
                    self._start()
            except BaseException:
                self.stop()
                raise
            return self.dsn

    def ensure_running(self) -> bool:
        """Start the server again if it died; True if it had to. Does nothing before `start()` and after `stop()`."""
        with self._turn:
            if self._lock is None or self.is_running():
                rotate(self._place.log_file)
                return False
            died = self._postmaster
            self._report(f"the database server ended ({died.exit_code if died else None}) and is started again")
            self._wanted = True
            self._start()
            return True

    def stop(self) -> None:
        """Stop the server: a clean end, then an immediate one, then a kill. Returns when no process is left."""
        self._wanted = False  # before waiting for our turn: it calls off a start that is still waiting
        with self._turn:
            if self._lock is None or not self._lock.held:  # never started, or we are a forked copy of the supervisor
                return
            if self._postmaster is not None:
                self._end(self._postmaster)
                self._postmaster = None
            if initdb.is_made(self._place.data) and self._socket_directory is not None:
                sweep(self._place.data, self._socket_directory, server_account(self._run_as))
            self._place.forget_short_directory()
            self._lock.release()
            self._lock = None

    def _end(self, postmaster: Postmaster) -> None:
        steps = ((signal.SIGINT, self._stop_timeout_seconds), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))
        for number, seconds in steps:
            postmaster.signal(number)
            if postmaster.wait(seconds):
                return
            self._report(f"the database server does not end on {number.name}")

    def _start(self) -> None:
        """Bring the server up; after a failure the data directory may still be started later."""
        try:
            self._bring_up()
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            free_bytes = shutil.disk_usage(self._place.home).free
            raise DiskFull(self._place.data, free_bytes, str(error)) from error

    def _bring_up(self) -> None:
        place, account = self._place, server_account(self._run_as)
        binaries = locate(account)
        if not initdb.is_made(place.data):
            self._report(f"making a new database in {place.data}")
            initdb.make(place, binaries, account)
        initdb.check(place.data, account)
        if not place.password_file.exists():
            raise PasswordRefused(place.password_file)
        place.password_file.chmod(0o600)
        self._socket_directory = place.socket_directory(account)
        likeness = self._likeness(binaries)
        rotate(place.log_file)
        self._log = ServerLog(place.log_file)
        self._postmaster = self._adopt(account, likeness)
        if self._postmaster is None:
            write_configuration(place.data, account, self._settings)
            self._launch(binaries, account, likeness)
        self._wait_until_ready()

    def _likeness(self, binaries: Path) -> str:
        """Digest everything that a server is started with: one that is left behind is adopted if it is the same."""
        parts = [{**DEFAULTS, **self._settings}, self._tcp, str(binaries), str(self._socket_directory)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _adopt(self, account: Account, likeness: str) -> Postmaster | None:
        """Take over a live server of ours that is as we would start it; end any other, and clear what it left."""
        assert self._socket_directory is not None
        found = live_postmaster(self._place.data, account)
        if found is not None:
            port = port_in_file(self._place.data)
            if port and found.was_started_with(likeness) and (self._socket_directory / f".s.PGSQL.{port}").exists():
                self._port = port
                self._report(f"taking over the database server that is still running (pid {found.pid})")
                return found
            self._report(f"ending a database server of an earlier run (pid {found.pid})")
            self._end(found)
        ended = sweep(self._place.data, self._socket_directory, account)
        if ended:
            self._report(f"ended {ended} processes that outlived their database server")
        return None

    def _launch(self, binaries: Path, account: Account, likeness: str) -> None:
        assert self._socket_directory is not None
        data = self._place.data
        self._port = _free_port() if self._tcp else _SOCKET_PORT
        output = self._log.open()
        try:
            with handed_directory(self._socket_directory, account) as (socket_directory, descriptors):
                command: list[str | Path] = [
                    binaries / "postgres",
                    *("-D", data_argument(data, account)),
                    *("-k", socket_directory),
                    *("-p", str(self._port)),
                    *("-c", f"listen_addresses={'127.0.0.1' if self._tcp else ''}"),
                    *("-c", f"cluster_name={mark_of(data)}"),
                    *("-c", f"commons.likeness={likeness}"),
                ]
                child = launch(command, data, account, output=output, descriptors=descriptors)
        finally:
            os.close(output)
        self._postmaster = Postmaster(child.pid, child)

    def _wait_until_ready(self) -> None:
        """Wait while the process lives, for as long as it takes; tell what it is doing."""
        assert self._postmaster is not None
        pause = 0.02
        while True:
            answer, words = ask(self.dsn)
            if answer is Answer.READY:
                return
            if answer is Answer.NO_DATABASE:
                create_database(self.dsn, DATABASE)
                continue
            if answer is Answer.REFUSED:
                raise PasswordRefused(self._place.password_file)
            if answer is Answer.BROKEN:
                raise DataDirectoryBroken(self._place.data, words)
            for line in self._log.progress():
                self._report(f"the database is starting: {line}")
            if not self._postmaster.alive():
                raise initdb.failure(self._place, self._postmaster.exit_code, self._log.lines())
            if not self._wanted:
                raise EmbeddedPostgresError("The database was stopped while it was starting.")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.25)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
