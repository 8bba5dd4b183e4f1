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
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from infra.postgres import initdb
from infra.postgres.binaries import locate, server_account
from infra.postgres.embedded_errors import (
    DataDirectoryBroken,
    DiskFull,
    EmbeddedPostgresError,
    PasswordRefused,
    ServerExited,
)
from infra.postgres.embedded_settings import write_configuration
from infra.postgres.launching import DATABASE, Plan
from infra.postgres.place import HomeLock, Place, free_bytes
from infra.postgres.processes import Postmaster, live_postmaster, port_in_file, sweep
from infra.postgres.readiness import Answer, ask, create_database
from infra.postgres.server_log import ServerLog, rotate

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]

_TRIES_FOR_A_PORT: Final = 5
_SHORTEST_PAUSE_SECONDS: Final = 0.02
_LONGEST_PAUSE_SECONDS: Final = 0.25


class EmbeddedPostgres:
    """One PostgreSQL server for one home; synchronous, to be called from a thread where an event loop runs."""

    def __init__(
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
        self._plan: Plan | None = None
        self._port = 0
        self._log = ServerLog(self._place.log_file)

    @property
    def place(self) -> Place:
        """Where the parts lie in the home."""
        return self._place

    @property
    def dsn(self) -> str:
        """The address for asyncpg, psycopg and libpq; it names the password file and does not hold the password."""
        assert self._plan is not None, "start() comes first"
        return self._plan.dsn(self._port)

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
                with self._full_disk_named():
                    self._begin()
            except BaseException:
                self.stop()
                raise
            return self.dsn

    def ensure_running(self) -> bool:
        """Start the server again if it died; True if it had to. To be called every second or so.

        It does nothing before `start()` and after `stop()`. It may be called again after it raised, for instance
        `DiskFull`: the home stays ours. The address stays the same, except when `tcp` finds its port taken meanwhile.
        """
        with self._turn:
            if self._lock is None:
                return False
            if self.is_running():
                rotate(self._place.log_file)
                return False
            died = self._postmaster
            self._report(f"the database server ended ({died.exit_code if died else None}) and is started again")
            with self._full_disk_named():
                self._bring_up()
            return True

    def stop(self) -> None:
        """Stop the server: a clean end, then an immediate one, then a kill. Returns when no process is left."""
        self._wanted = False  # before waiting for our turn: it calls off a start that is still waiting
        with self._turn:
            if self._lock is None or not self._lock.held:  # never started, or we are a forked copy of the supervisor
                return
            if self._postmaster is not None:
                assert self._plan is not None
                self._end(self._postmaster)
                self._postmaster = None
                if self._place.data.exists():  # somebody may have removed the home under us
                    sweep(self._place.data, self._plan.socket_directory, self._plan.account)
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

    @contextmanager
    def _full_disk_named(self) -> Iterator[None]:
        """Turn the system's error for a full disk, met anywhere, into ours."""
        try:
            yield
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            raise DiskFull(self._place.data, free_bytes(self._place.data), str(error)) from error

    def _begin(self) -> None:
        if self._lock is None:
            self._place.make_directories()
            self._lock = HomeLock(self._place)
        if not self.is_running():
            self._bring_up()

    def _bring_up(self) -> None:
        self._plan = plan = self._make_plan()
        rotate(plan.place.log_file)
        self._log = ServerLog(plan.place.log_file)
        if self._take_over(plan):
            return
        write_configuration(plan.place.data, plan.account, plan.settings)
        for left in reversed(range(_TRIES_FOR_A_PORT)):
            self._log = ServerLog(plan.place.log_file)
            self._port = self._port or plan.free_port()  # a server that is started again keeps its address
            self._postmaster = plan.launch(self._port, self._log.open())
            try:
                self._wait_until_ready(self._postmaster)
            except ServerExited as error:
                if not left or "Address already in use" not in str(error):
                    raise
                self._port = 0  # another program was faster
            else:
                return

    def _make_plan(self) -> Plan:
        place, account = self._place, server_account(self._run_as)
        binaries = locate(account)
        if not initdb.is_made(place.data):
            self._report(f"making a new database in {place.data}")
            initdb.make(place, binaries, account)
        initdb.check(place.data, account)
        if not place.password_file.exists():
            raise PasswordRefused(place.password_file)
        place.password_file.chmod(0o600)
        return Plan(place, account, binaries, place.socket_directory(account), self._settings, self._tcp)

    def _take_over(self, plan: Plan) -> bool:
        """Adopt a live server of ours that is as we would start it; end any other, and clear what it left."""
        data = plan.place.data
        found = live_postmaster(data, plan.account)
        port = port_in_file(data)
        if found is not None and port is not None and plan.fits(found, port):
            self._report(f"taking over the database server that is still running (pid {found.pid})")
            self._postmaster, self._port = found, port
            try:
                self._wait_until_ready(found)
            except ServerExited:
                self._report("it was just ending; a new one is started")
            else:
                return True
        elif found is not None:
            self._report(f"ending a database server of an earlier run (pid {found.pid})")
            self._end(found)
        ended = sweep(data, plan.socket_directory, plan.account)
        if ended:
            self._report(f"ended {ended} processes that outlived their database server")
        return False

    def _wait_until_ready(self, postmaster: Postmaster) -> None:
        """Wait while the process lives, for as long as it takes; tell what it is doing."""
        pause = _SHORTEST_PAUSE_SECONDS
        while True:
            answer, words = ask(self.dsn)
            if answer is Answer.READY:
                return
            if answer is Answer.NO_DATABASE:
                create_database(self.dsn, DATABASE)
            elif answer is Answer.REFUSED:
                raise PasswordRefused(self._place.password_file)
            elif answer is Answer.BROKEN:
                raise DataDirectoryBroken(self._place.data, words)
            elif answer is Answer.LEAVING:  # asked to end when its last client has gone, which may be never
                postmaster.signal(signal.SIGINT)
            for line in self._log.progress():
                self._report(f"the database is starting: {line}")
            if not postmaster.alive():
                raise initdb.failure(self._place, postmaster.exit_code, self._log.lines())
            if not self._wanted:
                raise EmbeddedPostgresError("The database was stopped while it was starting.")
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)
