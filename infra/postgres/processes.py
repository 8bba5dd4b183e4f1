"""The server's processes: recognise our own, start them, end them.

A pid file alone proves nothing: pids are reused, and files survive their processes. Every server is therefore started
with a mark in its `cluster_name`, derived from device and inode of its data directory. PostgreSQL shows the mark in
the command line of all its processes, which every account may read, also in containers where /proc/PID/cwd is hidden.

As root the server runs as another account, which may pass through none of the directories above its data, and need
not: it starts inside the data directory and names it `/proc/self/cwd`; the socket's directory and the log are handed
over as open descriptors. So no directory has to be opened for anyone.
"""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from infra.postgres.binaries import Account, server_environment
from infra.postgres.embedded_errors import AnotherServer, NoServerAccount

_POLL_SECONDS: Final = 0.02
_PID_LINE, _PORT_LINE = 0, 3  # in postmaster.pid (src/include/utils/pidfile.h)
_HERE: Final = "/proc/self/cwd"


def mark_of(data: Path) -> str:
    """Name the data directory by device and inode: unique among the live directories of this machine."""
    found = data.stat()
    return f"commons-{hashlib.sha256(f'{found.st_dev}:{found.st_ino}'.encode()).hexdigest()[:12]}"


def data_argument(data: Path, account: Account) -> str:
    """How the server is told its data directory, which is also its working directory."""
    if not account.switched:
        return str(data)
    if not Path(_HERE).exists():
        raise NoServerAccount(f"uid {account.uid}", f"{_HERE} is not there, so it cannot reach {data}")
    return _HERE


@contextmanager
def handed_directory(path: Path, account: Account) -> Iterator[tuple[str, list[int]]]:
    """Name a directory so that the server can reach it: (path for the server, descriptors to hand over)."""
    if not account.switched:
        yield str(path), []
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{descriptor}", [descriptor]
    finally:
        os.close(descriptor)


def launch(
    command: Sequence[str | Path],
    data: Path,
    account: Account,
    *,
    output: int,
    descriptors: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program of the server inside its data directory, in a session of its own; raises `NoServerAccount`.

    The session keeps Ctrl-C on our terminal from stopping the database before those who use it have drained.
    """
    try:
        return subprocess.Popen(  # noqa: S603 - our own binary, no shell
            [str(part) for part in command],
            cwd=data,
            env=server_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=tuple(descriptors),
            start_new_session=True,
            umask=0o077,
            user=account.uid if account.switched else None,
            group=account.gid if account.switched else None,
            extra_groups=[] if account.switched else None,
        )
    except OSError as error:
        if account.switched and error.errno in {errno.EPERM, errno.EACCES, errno.EINVAL}:
            raise NoServerAccount(f"uid {account.uid}", str(error)) from error
        raise


class Postmaster:
    """The first process of a server, started by us or left behind by a supervisor that was killed."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        """Follow a live process; `child` is given when we started it ourselves."""
        self.pid = pid
        self._child = child
        self._process = psutil.Process(pid)  # knows the start time, so that a reused pid is not taken for it

    @property
    def exit_code(self) -> int | None:
        """Its exit code when it was our child and has ended: negative for a signal."""
        return self._child.poll() if self._child is not None else None

    def alive(self) -> bool:
        """Whether the process still runs."""
        if self._child is not None:
            return self._child.poll() is None
        with suppress(ChildProcessError):  # as process 1 of a container we inherit orphans and must reap them
            os.waitpid(self.pid, os.WNOHANG)
        try:
            return self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    def was_started_with(self, likeness: str) -> bool:
        """Whether the digest of settings on its command line is `likeness`."""
        with suppress(psutil.Error):
            return f"commons.likeness={likeness}" in self._process.cmdline()
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process still runs."""
        if self.alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, seconds: float) -> bool:
        """Wait for the end; True when it has come."""
        end = time.monotonic() + seconds
        while self.alive():
            if time.monotonic() > end:
                return False
            time.sleep(_POLL_SECONDS)
        return True


def our_processes(mark: str, account: Account) -> list[psutil.Process]:
    """Find the live processes of the server that carries `mark` and runs as `account`."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.uids().effective != account.uid or process.status() == psutil.STATUS_ZOMBIE:
                continue
            words = process.cmdline()
            title = " ".join(words)
            started = bool(words) and Path(words[0]).name == "postgres" and f"cluster_name={mark}" in words
            if started or title.startswith(f"postgres: {mark}: "):
                found.append(process)
    return found


def live_postmaster(data: Path, account: Account) -> Postmaster | None:
    """Return the running server of this data directory, if it is one of ours.

    Raises `AnotherServer` when a server that we did not start runs there. A pid file whose process is gone, or is any
    other program, counts for nothing.
    """
    pid = pid_in_file(data)
    if pid is None:
        return None
    if pid in {process.pid for process in our_processes(mark_of(data), account)}:
        with suppress(psutil.NoSuchProcess):
            return Postmaster(pid)
        return None
    if _is_foreign_server(pid, data, account):
        raise AnotherServer(data, pid)
    return None


def pid_in_file(data: Path) -> int | None:
    """Read the first line of postmaster.pid; None when there is none or it holds no pid (a disk was full)."""
    return _number_in_file(data, _PID_LINE)


def port_in_file(data: Path) -> int | None:
    """Read the port from postmaster.pid; None when it is not there (yet)."""
    return _number_in_file(data, _PORT_LINE)


def _number_in_file(data: Path, line: int) -> int | None:
    try:
        lines = (data / "postmaster.pid").read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return None
    word = lines[line].strip() if line < len(lines) else ""
    return int(word) if word.isdecimal() and int(word) > 0 else None


def _is_foreign_server(pid: int, data: Path, account: Account) -> bool:
    try:
        process = psutil.Process(pid)
        title = " ".join(process.cmdline())
        if process.name() != "postgres" or "cluster_name=commons-" in title:  # a reused pid: it serves another home
            return False
        return Path(process.cwd()).samefile(data)
    except psutil.AccessDenied:
        return process.uids().effective == account.uid
    except (psutil.Error, OSError):
        return False


def sweep(data: Path, sockets: Path, account: Account, seconds: float = 20.0) -> int:
    """End what is left of a server whose postmaster died, then remove its stale files; return how many it ended.

    Backends of a killed postmaster normally leave by themselves; one inside a long computation does not, and as long
    as it holds the shared memory no new server may start. The pid file is removed only when nothing of ours lives.
    """
    mark = mark_of(data)
    ended = 0
    for number in (signal.SIGQUIT, signal.SIGKILL):
        left = our_processes(mark, account)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        ended = max(ended, len(left))
        if not psutil.wait_procs(left, timeout=seconds / 2)[1]:
            break
    pid = pid_in_file(data)
    if not our_processes(mark, account) and not (pid and _is_foreign_server(pid, data, account)):
        (data / "postmaster.pid").unlink(missing_ok=True)
        for stale in sockets.glob(".s.PGSQL.*"):
            stale.unlink(missing_ok=True)
    return ended
