"""`make up`, `make down`, `make logs`: one `commons up` in the background, known by a pid file under the home.

`ready` only asks whether the process of these settings is ready, as the health check of a container does.

The pid file holds the process's start time beside its id, so a stale file never makes us signal a stranger.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from infra.postgres.server_log import rotate
from infra.settings import SettingRefused, Settings, read_settings

READY_SECONDS: Final = 120.0
"""How long a start may take: a first one makes a database, one after a crash replays its log."""

STOP_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.2
_SERVE: Final = (sys.executable, "-m", "infra.cli", "up")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the background process leaves its marks."""

    home: Path

    @property
    def pid_file(self) -> Path:
        """JSON `[pid, start time]` of the process."""
        return self.home / "run" / "commons.pid"

    @property
    def log_file(self) -> Path:
        """What it printed."""
        return self.home / "log" / "commons.log"

    def running(self) -> psutil.Process | None:
        """Return the process, or None when it is gone (then its pid file means nothing)."""
        try:
            pid, started = json.loads(self.pid_file.read_text(encoding="utf-8"))
            process = psutil.Process(pid)
            alive = process.create_time() == started and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, psutil.Error):
            return None
        return process if alive else None

    def start(self, command: Sequence[str]) -> psutil.Process:
        """Start `command` detached from this terminal, its output appended to the log."""
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (self.pid_file.parent, self.log_file.parent):
            path.mkdir(mode=0o700, exist_ok=True)
        rotate(self.log_file)
        log = os.open(self.log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            child = subprocess.Popen(  # noqa: S603 - our own command line
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        finally:
            os.close(log)
        process = psutil.Process(child.pid)
        self.pid_file.write_text(json.dumps([child.pid, process.create_time()]), encoding="utf-8")
        return process


def up(place: Place, ready: Callable[[], bool], command: Sequence[str] = _SERVE, seconds: float = READY_SECONDS) -> str:
    """Start `command` unless it runs, wait until `ready`, return what to tell. Raises RuntimeError when it failed."""
    process = place.running() or place.start(command)
    deadline = time.monotonic() + seconds
    while not ready():
        if place.running() is None:
            raise RuntimeError(f"it ended before it was ready; the end of {place.log_file}:\n{_tail(place.log_file)}")
        if time.monotonic() > deadline:
            raise RuntimeError(f"it is not ready after {seconds:g} s; see {place.log_file}")
        time.sleep(_POLL_SECONDS)
    return f"ready (pid {process.pid}, log {place.log_file})"


def down(place: Place, seconds: float = STOP_SECONDS) -> str:
    """Stop what runs and return what to tell. Raises RuntimeError when it does not stop in time."""
    process = place.running()
    if process is None:
        place.pid_file.unlink(missing_ok=True)
        return "nothing was running"
    process.terminate()
    try:
        process.wait(seconds)
    except psutil.TimeoutExpired as error:
        raise RuntimeError(f"pid {process.pid} did not stop in {seconds:g} s; see {place.log_file}") from error
    place.pid_file.unlink(missing_ok=True)
    return f"stopped (pid {process.pid})"


def is_ready(settings: Settings) -> bool:
    """Ask the readiness route on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - asked, not bound
    connection = http.client.HTTPConnection(host, settings.port, timeout=2.0)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _tail(path: Path, lines: int = 20) -> str:
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError as error:
        return f"(cannot be read: {error.strerror})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m infra.background", description="commons up, in the background")
    parser.add_argument("verb", choices=("up", "down", "logs", "ready"))
    verb = parser.parse_args(arguments).verb
    try:
        settings = read_settings()
        if verb == "ready":
            return 0 if is_ready(settings) else 1
        place = Place(settings.home)
        if verb == "logs":
            return subprocess.run(["tail", "-n", "100", "-F", str(place.log_file)], check=False).returncode  # noqa: S603, S607
        told = f"{settings.public_url} is {up(place, lambda: is_ready(settings))}" if verb == "up" else down(place)
    except (RuntimeError, SettingRefused) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    sys.stdout.write(f"{told}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
