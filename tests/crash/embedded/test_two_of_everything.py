"""Two homes, two supervisors, two users: nothing is shared."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from infra.postgres.embedded_errors import (
    HomeInUse,
)
from tests.crash.embedded.lab import (
    Make,
    announced,
    mode,
    needs_root,
    query,
    supervisor_process,
)


def test_two_homes_live_side_by_side(make: Make, tmp_path: Path) -> None:
    one, two = make(at=tmp_path / "one"), make()
    query(one.start(), "CREATE TABLE mine ()")
    assert query(two.start(), "SELECT to_regclass('mine')") is None
    one.stop()
    assert two.is_running()
    assert query(two.dsn, "SELECT 1") == 1


def test_a_home_that_is_taken_is_refused_by_name(make: Make, home: Path) -> None:
    holder = supervisor_process(home)
    try:
        pid, dsn = announced(holder)
        with pytest.raises(HomeInUse, match=f"pid {holder.pid}"):
            make().start()
        assert psutil.pid_exists(pid), "the other one's server is left alone"
        assert query(dsn, "SELECT 1") == 1
    finally:
        holder.kill()
        holder.wait()
    make().start()


def test_a_forked_child_neither_keeps_the_home_nor_stops_its_server(make: Make) -> None:
    server = make()
    server.start()
    child = os.fork()
    if child == 0:
        server.stop()
        time.sleep(30)
        os._exit(0)
    try:
        time.sleep(0.3)
        assert server.is_running()
        server.stop()
        make().start()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@needs_root
def test_two_ordinary_users_and_root_run_side_by_side(open_python: tuple[str, dict[str, str]], make: Make) -> None:
    interpreter, env = open_python
    make().start()
    running = []
    try:
        for name in ("daemon", "nobody"):
            home = Path(tempfile.mkdtemp(prefix=f"commons-{name}-", dir="/tmp"))
            user = pwd.getpwnam(name)
            os.chown(home, user.pw_uid, user.pw_gid)
            options: dict[str, object] = {
                "user": name,
                "group": user.pw_gid,
                "extra_groups": [],
                "env": env,
                "cwd": "/",
            }
            body = "sys.stdin.readline(); server.stop()"
            process = supervisor_process(home / "var", body, interpreter=interpreter, stdin=subprocess.PIPE, **options)
            running.append((process, home, user.pw_uid))
        for process, home, uid in running:
            pid, dsn = announced(process)
            assert query(dsn, "SELECT 1") == 1
            assert psutil.Process(pid).uids().effective == uid
            assert mode(home / "var") == mode(home / "var" / "keys") == 0o700
            assert (home / "var" / "postgres" / "data").stat().st_uid == uid
        for process, home, _ in running:
            process.communicate("\n", timeout=20)
            assert process.returncode == 0
            assert not (home / "var" / "postgres" / "data" / "postmaster.pid").exists()
    finally:
        for process, home, _ in running:
            process.kill()
            process.wait()
            shutil.rmtree(home)
