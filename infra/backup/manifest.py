"""What an archive says about itself: versions, heads, hashes. It is the archive's last part, so a cut one has none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

NAME: Final = "manifest.json"
DATABASE: Final = "database.dump"
FORMAT: Final = 1


class BackupRefused(Exception):
    """A backup or a restore cannot be done; the message says why and what to do."""


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the manifest; unknown fields are refused."""


class Head(_Document, frozen=True):
    """Where a service stood: position and hex SHA-256 of the record there; `first` is that of its first record."""

    position: int
    record_hash: str
    first: str


class ViewHash(_Document, frozen=True):
    """What a view held: its version, the hash over its rows, and the positions they reflect by channel."""

    version: int
    hash: str
    positions: Mapping[str, int]


class Part(_Document, frozen=True):
    """A file of the archive: its name there, size, hex SHA-256 and what it is."""

    name: str
    size: int
    sha256: str
    what: str


class Manifest(_Document, frozen=True):
    """The whole of it. `layouts` are the versions of the services' tables."""

    format: int
    made: str
    software: str
    postgres_major: int
    layouts: Mapping[str, int]
    schemas: tuple[str, ...]
    heads: Mapping[str, Head]
    views: Mapping[str, ViewHash]
    parts: tuple[Part, ...]

    def part(self, name: str) -> Part:
        """Return a part. Raises BackupRefused when there is none of that name."""
        for part in self.parts:
            if part.name == name:
                return part
        raise BackupRefused(f"the archive has no {name}: it is not one of ours")


class _Version(msgspec.Struct, frozen=True):
    format: int


def read_manifest(raw: bytes) -> Manifest:
    """Return the manifest of its bytes. Raises BackupRefused for one that is newer or not whole."""
    try:
        version = msgspec.json.decode(raw, type=_Version).format
        if version > FORMAT:
            raise BackupRefused(
                f"the archive has format {version}, this software knows {FORMAT}: restore it with newer software"
            )
        return msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError as error:
        raise BackupRefused(f"the archive's manifest cannot be read: {error}") from error


def manifest_bytes(manifest: Manifest) -> bytes:
    """Return the manifest as JSON that people can read."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"
