"""The archive: a plain tar (any tar reads it), written once from front to end, and checked hash by hash when read."""

from __future__ import annotations

import hashlib
import os
import secrets
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Final

from infra.backup.manifest import NAME, BackupRefused, Manifest, Part, manifest_bytes, read_manifest

CHUNK: Final = 1 << 20
_BLOCK: Final = 512
_MANIFEST_BYTES: Final = 64 << 20

Tell = Callable[[str, int, int], None]
"""`tell(step, done, total)`; a total of 0 is not known yet."""


class Writer:
    """Writes parts one after the other; a part's size need not be known before it is written."""

    def __init__(self, file: IO[bytes], mtime: int, tell: Tell) -> None:
        """Write to a seekable `file`; `mtime` (seconds) is the time every part gets."""
        self._file = file
        self._mtime = mtime
        self._tell = tell
        self.parts: list[Part] = []

    def add(self, name: str, what: str, read: Callable[[int], bytes]) -> Part:
        """Add what `read(n)` gives until it gives nothing; return the part. Raises OSError."""
        header = self._file.tell()
        self._file.write(bytes(_BLOCK))
        digest, size = hashlib.sha256(), 0
        while chunk := read(CHUNK):
            self._file.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            self._tell(f"write {name}", size, 0)
        self._file.write(bytes(-size % _BLOCK))
        end = self._file.tell()
        self._file.seek(header)
        self._file.write(self._header(name, size))
        self._file.seek(end)
        part = Part(name, size, digest.hexdigest(), what)
        self.parts.append(part)
        return part

    def finish(self, manifest: Manifest) -> None:
        """Add the manifest and the tar's end."""
        raw = manifest_bytes(manifest)
        self._file.write(self._header(NAME, len(raw)) + raw + bytes(-len(raw) % _BLOCK) + bytes(2 * _BLOCK))

    def _header(self, name: str, size: int) -> bytes:
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = size, 0o600, self._mtime
        header = info.tobuf(tarfile.GNU_FORMAT)
        if len(header) != _BLOCK:
            raise BackupRefused(f"{name}: names of files are limited to 100 bytes in an archive")
        return header


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield a private draft beside `path` that gets its name, whole and durable, when the work is done.

    Raises BackupRefused when something has that name already: nothing is ever overwritten.
    """
    if path.exists():
        raise BackupRefused(f"{path} exists already: choose another name, nothing is overwritten")
    draft = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise BackupRefused(f"{path.parent} cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(descriptor, "w+b", buffering=CHUNK) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError as error:
            raise BackupRefused(f"{path} appeared meanwhile: choose another name") from error
    except OSError as error:
        raise BackupRefused(f"{path} was not written: {error.strerror or error}; make room and try again") from error
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Reader:
    """An archive whose every byte was compared with its manifest."""

    def __init__(self, file: IO[bytes], tell: Tell) -> None:
        """Read the seekable `file` once from end to end. Raises BackupRefused for anything that does not fit."""
        self._file = file
        self._where: dict[str, tuple[int, int]] = {}
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                for member in tar:
                    if not member.isfile() or not _is_safe(member.name) or member.name in self._where:
                        raise BackupRefused(f"the archive holds {member.name!r}, which no backup of ours does")
                    self._where[member.name] = (member.offset_data, member.size)
        except (tarfile.TarError, EOFError) as error:
            raise BackupRefused(f"this is no archive of ours, or it was cut off: {error}") from error
        if NAME not in self._where or self._where[NAME][1] > _MANIFEST_BYTES:
            raise BackupRefused("the archive has no manifest: it was cut off, or is not one of ours")
        self.manifest = read_manifest(b"".join(self.read(NAME)))
        self._check(tell)

    def _check(self, tell: Tell) -> None:
        listed = {part.name for part in self.manifest.parts}
        if listed | {NAME} != set(self._where):
            raise BackupRefused("the archive holds other parts than its manifest lists: take another backup")
        for part in self.manifest.parts:
            digest, done = hashlib.sha256(), 0
            for chunk in self.read(part.name):
                digest.update(chunk)
                done += len(chunk)
                tell(f"check {part.name}", done, part.size)
            if done != part.size or digest.hexdigest() != part.sha256:
                raise BackupRefused(
                    f"{part.name} in the archive is not what was backed up (its SHA-256 differs): take another backup"
                )

    def read(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a part."""
        offset, left = self._where[name]
        self._file.seek(offset)
        while left and (chunk := self._file.read(min(CHUNK, left))):
            left -= len(chunk)
            yield chunk


def _is_safe(name: str) -> bool:
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts and name == str(path)
