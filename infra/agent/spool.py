"""The spool on disk: append only, durable before anything is sent or told, one file per UTC hour."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from events.spool import spool_next, spool_start
from infra.agent.disk import append

SUFFIX: Final = ".spool"
NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

Reading = tuple[str, str, int, int, int]
"""Device, lease, start, end (milliseconds UTC), level (milli)."""

_DECODER: Final = msgspec.json.Decoder(Reading)


class SpoolFull(Exception):
    """There is no room for more readings; what was spooled before is whole."""


class SpoolAltered(Exception):
    """A spool file is not what this agent wrote; its hour is not sent."""


@dataclass(frozen=True, slots=True)
class Head:
    """How far an hour's spool reaches: its lines and the chain's hash over them (32 bytes)."""

    lines: int
    running: bytes

    @property
    def sha256(self) -> str:
        """The hash as hex."""
        return self.running.hex()


def read_line(line: bytes) -> Reading:
    """Return the reading of a line. Raises SpoolAltered for bytes that are not exactly what a line is."""
    try:
        reading: Reading = _DECODER.decode(line)
    except msgspec.MsgspecError as error:
        raise SpoolAltered(f"a line of the spool does not parse: {error}") from error
    if msgspec.json.encode(reading) + b"\n" != line:
        raise SpoolAltered("a line of the spool is not in its canonical form")
    return reading


class Spool:
    """The spool of one node. `limit_bytes` bounds what all hours together may take."""

    def __init__(self, folder: Path, node: str, limit_bytes: int) -> None:
        """Use the folder, made where it is missing."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._node = node
        self._limit_bytes = limit_bytes
        self._heads: dict[int, Head] = {}
        self._size = sum(self._path(hour).stat().st_size for hour in self.hours())

    def hours(self) -> list[int]:
        """Return the hours that are there, oldest first."""
        return sorted(int(path.stem) for path in self._folder.glob(f"*{SUFFIX}") if path.stem.isdecimal())

    def size(self) -> int:
        """Return the bytes of all hours."""
        return self._size

    def lines(self, hour: int) -> list[bytes]:
        """Return an hour's whole lines; what a crash left of a last one does not count."""
        path = self._path(hour)
        found = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        return found[:-1] if found and not found[-1].endswith(b"\n") else found

    def head(self, hour: int) -> Head:
        """Return how far an hour reaches."""
        known = self._heads.get(hour)
        if known is None:
            known = self._heads[hour] = self.head_after(hour, None)
        return known

    def head_after(self, hour: int, count: int | None) -> Head:
        """Return the head after the first `count` lines on disk (all when None)."""
        running, lines = spool_start(self._node, hour), self.lines(hour)[:count]
        for line in lines:
            running = spool_next(running, line)
        return Head(len(lines), running)

    def append(self, hour: int, lines: Sequence[bytes]) -> None:
        """Add lines to an hour, durably. Raises SpoolFull; then nothing of them is there."""
        head, raw, path = self.head(hour), b"".join(lines), self._path(hour)
        if self._size + len(raw) > self._limit_bytes:
            raise SpoolFull(f"the spool has reached its limit of {self._limit_bytes // 2**20} MiB, none acknowledged")
        self._mend(path)
        try:
            append(path, raw)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise SpoolFull(f"the disk of the spool is full ({self._folder})") from error
        self._size += len(raw)
        running = head.running
        for line in lines:
            running = spool_next(running, line)
        self._heads[hour] = Head(head.lines + len(lines), running)

    def drop(self, done: Callable[[int], bool], *, to_bytes: int) -> list[int]:
        """Delete the oldest hours that are done until the rest takes at most `to_bytes`; return those deleted."""
        dropped = []
        for hour in self.hours():
            if self._size <= to_bytes:
                break
            if done(hour):
                self._size -= self._path(hour).stat().st_size
                self._path(hour).unlink()
                self._heads.pop(hour, None)
                dropped.append(hour)
        return dropped

    def _mend(self, path: Path) -> None:
        """Cut off what a crash left of a line, so that the next one begins where a line begins."""
        if not path.exists():
            return
        raw = path.read_bytes()
        whole = raw.rfind(b"\n") + 1
        if whole != len(raw):
            with path.open("r+b") as file:
                file.truncate(whole)

    def _path(self, hour: int) -> Path:
        return self._folder / f"{hour}{SUFFIX}"
