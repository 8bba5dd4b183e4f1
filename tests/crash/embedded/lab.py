"""What the tests of the embedded PostgreSQL share: queries, kills, and a supervisor in another process."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from infra.postgres import binaries, processes
from infra.postgres.embedded import EmbeddedPostgres

REPOSITORY = Path(__file__).parents[3]
SMALL = {"shared_buffers": "16MB", "max_connections": "20", "min_wal_size": "32MB"}
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="only root runs the server as another account")

Make = Callable[..., EmbeddedPostgres]


def query(dsn: str, sql: str) -> object:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(sql)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def living(server: EmbeddedPostgres) -> list[int]:
    account = binaries.server_account("nobody")
    return [process.pid for process in processes.our_processes(processes.mark_of(server.place.data), account)]


def kill_everything(server: EmbeddedPostgres) -> None:
    """Kill -9 the postmaster and all backends, as a power cut would; the supervisor only knows the corpse."""
    for pid in living(server):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not living(server))


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


def supervisor_process(home: Path, body: str = "time.sleep(600)", **options: object) -> subprocess.Popen[str]:
    """Run a supervisor in a process of its own, which prints its server's pid and DSN when it is ready."""
    script = f"""
        import sys, time
        from pathlib import Path
        from infra.postgres.embedded import EmbeddedPostgres
        server = EmbeddedPostgres(Path(sys.argv[1]), settings={SMALL!r})
        server.start()
        print(server.pid, server.dsn, flush=True)
        {body}
    """
    defaults: dict[str, object] = {
        "cwd": REPOSITORY,
        "env": {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])},
    }
    interpreter = str(options.pop("interpreter", sys.executable))
    return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
        [interpreter, "-c", textwrap.dedent(script), str(home)],
        stdout=subprocess.PIPE,
        text=True,
        **{**defaults, **options},
    )


def announced(process: subprocess.Popen[str]) -> tuple[int, str]:
    assert process.stdout is not None
    pid, dsn = process.stdout.readline().split()
    return int(pid), dsn
