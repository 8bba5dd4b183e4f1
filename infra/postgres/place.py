"""Where the embedded database lies in a home: directories, password file, lock and socket.

home/                       made 0700; one that exists already keeps its mode
├── keys/postgres.password  0600, in the format of a libpq password file
├── postgres/data           the database itself, 0700, owned by the server's account
├── postgres/log/           postgres.log and postgres.log.1, written through a descriptor that we hand over
└── run/                    postgres.lock, and postgres/ with the socket
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.postgres.binaries import Account
from infra.postgres.embedded_errors import DataDirectoryBroken, HomeInUse, NotOurs

ROLE: Final = "commons"
_LONGEST_SOCKET_PATH: Final = 100  # bytes; sun_path holds 108 on Linux and 104 on macOS, with its end mark
_SOCKET_NAME: Final = ".s.PGSQL.65535"


@dataclass(frozen=True, slots=True)
class Place:
    """The paths of one home; the home is absolute and free of symbolic links."""

    home: Path

    @property
    def data(self) -> Path:
        """The data directory."""
        return self.home / "postgres" / "data"

    @property
    def draft(self) -> Path:
        """Where a new data directory is made, before it is renamed to `data` as a whole."""
        return self.home / "postgres" / "data.draft"

    @property
    def log_file(self) -> Path:
        """What the server wrote to its standard error."""
        return self.home / "postgres" / "log" / "postgres.log"

    @property
    def password_file(self) -> Path:
        """The password, in the format of a libpq password file."""
        return self.home / "keys" / "postgres.password"

    @property
    def run(self) -> Path:
        """Files that have a meaning only while processes live."""
        return self.home / "run"

    def make_directories(self) -> None:
        """Make all private directories (0700); raises `NotOurs` for those of another account, `DataDirectoryBroken`."""
        try:
            self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in (self.password_file.parent, self.run, self.data.parent, self.log_file.parent):
                path.mkdir(mode=0o700, exist_ok=True)
                owner = path.stat().st_uid
                if owner != os.geteuid():
                    raise NotOurs(path, owner, os.geteuid())
                path.chmod(0o700)
        except (PermissionError, FileExistsError, NotADirectoryError) as error:
            fix = "Choose another COMMONS_HOME, or make this one a directory that you can write."
            raise DataDirectoryBroken(self.home, str(error), fix) from error

    def password(self) -> str:
        """Return the password; make a random one on the first call."""
        if not self.password_file.exists():
            draft = self.password_file.with_suffix(".draft")
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(f"*:*:*:{ROLE}:{secrets.token_urlsafe(32)}\n")
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self.password_file)
        return self.password_file.read_text().strip().rsplit(":", 1)[1]

    def socket_directory(self, account: Account) -> Path:
        """Return the private directory of the socket, which `account` can write.

        It lies in the home; where that path is too long for a socket (or holds a comma, which libpq takes for a list
        of hosts), in a private directory of its own under the system's temporary directory.
        """
        directory = self.run / "postgres"
        if len(os.fsencode(directory / _SOCKET_NAME)) > _LONGEST_SOCKET_PATH or "," in str(directory):
            directory = self._short_directory() / "s"
        directory.mkdir(mode=0o700, exist_ok=True)
        if account.switched:
            os.chown(directory, account.uid, account.gid, follow_symlinks=False)
        directory.chmod(0o700)
        return directory

    @property
    def short_directory_note(self) -> Path:
        """Names the private directory that is used when the home's path is too long for a socket."""
        return self.run / "postgres.socket-directory"

    def forget_short_directory(self) -> None:
        """Remove the private directory in the temporary directory, when there is one."""
        known = self._known_short_directory()
        if known is not None:
            shutil.rmtree(known, ignore_errors=True)
        self.short_directory_note.unlink(missing_ok=True)

    def _short_directory(self) -> Path:
        known = self._known_short_directory()
        if known is not None:
            return known
        roomy = len(tempfile.gettempdir()) < _LONGEST_SOCKET_PATH // 2
        made = Path(tempfile.mkdtemp(prefix="commons-", dir=None if roomy else "/tmp"))  # noqa: S108 - made 0700
        try:
            self.short_directory_note.touch(mode=0o600)
            self.short_directory_note.write_text(str(made))
        except OSError:  # a full disk: what nobody could find again must not stay
            made.rmdir()
            raise
        return made

    def _known_short_directory(self) -> Path | None:
        """Return the directory the note names, if it is there and ours alone."""
        note = self.short_directory_note
        known = Path(note.read_text()) if note.exists() else None
        if known is None or not known.is_absolute() or not known.is_dir() or known.is_symlink():
            return None
        found = known.stat()
        return known if found.st_uid == os.geteuid() and not found.st_mode & 0o077 else None


def free_bytes(path: Path) -> int:
    """How much room is left where `path` lies, or will lie."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


class HomeLock:
    """One supervisor per home: a lock that the system drops when its process dies, however it dies."""

    def __init__(self, place: Place) -> None:
        """Take the lock or raise `HomeInUse` at once."""
        self._fd = os.open(place.run / "postgres.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._fd, 100, 0).decode(errors="replace").strip() or "its pid is not known"
            os.close(self._fd)
            raise HomeInUse(place.home, holder) from None
        with suppress(OSError):  # on a full disk the lock holds all the same, without our name
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"pid {os.getpid()}\n".encode(), 0)
        # A child made by fork() without exec would share the lock and keep it after our death.
        itself = weakref.ref(self)
        os.register_at_fork(after_in_child=lambda: _forget(itself()))

    @property
    def held(self) -> bool:
        """Whether this process holds the lock."""
        return self._fd >= 0

    def release(self) -> None:
        """Give the home free."""
        if self.held:
            os.ftruncate(self._fd, 0)
            self.forget()

    def forget(self) -> None:
        """Close our descriptor only; a lock that a parent process shares with us stays."""
        if self.held:
            os.close(self._fd)
            self._fd = -1


def _forget(lock: HomeLock | None) -> None:
    if lock is not None:
        lock.forget()
