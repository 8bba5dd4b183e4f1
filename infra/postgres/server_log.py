"""The server's log: its standard error in a file of ours, kept small, and read for what it says while it starts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

_LARGEST_BYTES: Final = 16 * 2**20
_READ_BYTES: Final = 2**20
_TOLD: Final = ("recovery in progress", "LOG:  redo ", "syncing data", "end-of-recovery", "checkpoint complete")


class ServerLog:
    """One log file and the place up to which it was read."""

    def __init__(self, path: Path) -> None:
        """Begin at the end: what stands there already belongs to an earlier start."""
        self.path = path
        self._begin = path.stat().st_size if path.exists() else 0
        self._read = self._begin

    def open(self) -> int:
        """Return a descriptor for the server to write to; each line is appended, also after a rotation."""
        return os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def progress(self) -> list[str]:
        """Return the new lines that tell how far a start or a recovery is."""
        new = self._lines_from(self._read)
        self._read = self.path.stat().st_size if self.path.exists() else 0
        return [line.partition(":  ")[2] or line for line in new if any(word in line for word in _TOLD)]

    def lines(self) -> list[str]:
        """Return what was written since the start, at most the last megabyte."""
        return self._lines_from(self._begin)

    def _lines_from(self, offset: int) -> list[str]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0 if offset > size else offset, size - _READ_BYTES))
            return file.read().decode(errors="replace").splitlines()


def rotate(path: Path) -> None:
    """Keep a log that grew too large as `<name>.1` and empty it in place: the server holds it open."""
    if path.exists() and path.stat().st_size > _LARGEST_BYTES:
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        path.with_name(f"{path.name}.1").chmod(0o600)
        os.truncate(path, 0)
