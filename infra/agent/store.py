"""Files kept for storage leases: a copy of each under its root, and beside it the upper part of its Merkle tree.

Hashes are kept from the level upon which one stands for 64 chunks (32 KiB), level after level up to the root: a
five-hundredth of the file. What is below is read and hashed again when a chunk is asked for. Neither keeping nor
answering ever holds more than a piece of a file in memory.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from infra.agent.disk import sync_folder
from infra.agent.home import AgentRefused
from services.metering.merkle import audit_path, leaf_hash, level_above, root_by_path, root_over, siblings
from services.metering.storage import CHUNK_BYTES, HASH_BYTES, chunk_count

BLOCK_CHUNKS: Final = 64
BLOCK_BYTES: Final = BLOCK_CHUNKS * CHUNK_BYTES
READ_BYTES: Final = 32 * BLOCK_BYTES
SPAN: Final = 32_768
"""Hashes of a level that are in memory at a time; even, so that no pair is torn apart."""

MB: Final = 10**6
_ROOT: Final = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that is kept: its root (hex), its bytes, and the MB a lease of it has as its share."""

    root: str
    bytes: int
    mb: int


class Store:
    """The files that one agent keeps."""

    def __init__(self, home: Path) -> None:
        """Use `stored` in the agent's home."""
        self._folder = home / "stored"

    def keep(self, source: Path) -> Kept:
        """Copy a file here, and hash it on the way. Raises AgentRefused for an empty file, OSError."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        name = secrets.token_hex(8)
        draft, tree_draft = self._folder / f".{name}.new", self._folder / f".{name}.tree.new"
        try:
            with source.open("rb") as file, _fresh(draft) as copy, _fresh(tree_draft) as tree:
                size = _copy(file, copy, tree)
                if not size:
                    raise AgentRefused(f"{source} is empty: there is nothing to keep")
                root = _grow(tree, _block_count(size)).hex()
                for made in (copy, tree):
                    made.flush()
                    os.fsync(made.fileno())
            tree_draft.replace(self._folder / f"{root}.tree")
            draft.replace(self._folder / root)
        finally:
            draft.unlink(missing_ok=True)
            tree_draft.unlink(missing_ok=True)
        sync_folder(self._folder)
        return Kept(root, size, -(-size // MB))

    def size(self, root: str) -> int:
        """Return how many bytes are kept under a root. Raises AgentRefused."""
        size = self._path(root).stat().st_size
        if not size:
            raise _damaged(root)
        return size

    def holds(self, root: str, size: int) -> bool:
        """Tell whether so many bytes are kept under a root; what they are, only a challenge shows."""
        try:
            return self.size(root) == size
        except (AgentRefused, OSError):
            return False

    def total(self) -> int:
        """Return the bytes of all files that are kept, without the hashes beside them. Raises OSError."""
        if not self._folder.is_dir():
            return 0
        return sum(path.stat().st_size for path in self._folder.iterdir() if _ROOT.match(path.name))

    def chunk(self, root: str, index: int) -> tuple[bytes, list[bytes]]:
        """Return a chunk and its audit path. Raises AgentRefused where they do not lead to the root any more."""
        size, block = self.size(root), index // BLOCK_CHUNKS
        with self._path(root).open("rb") as file:
            file.seek(block * BLOCK_BYTES)
            chunks = _chunks(file.read(BLOCK_BYTES))
        if not index % BLOCK_CHUNKS < len(chunks):
            raise _damaged(root)
        hashes = [leaf_hash(chunk) for chunk in chunks]
        chunk = chunks[index % BLOCK_CHUNKS]
        try:
            path = audit_path(hashes, index % BLOCK_CHUNKS) + self._upper(root, block, _block_count(size))
        except FileNotFoundError:
            raise _damaged(root) from None
        found = root_by_path(leaf_hash(chunk), index, chunk_count(size), path)
        if found is None or found.hex() != root:
            raise _damaged(root)
        return chunk, path

    def _upper(self, root: str, block: int, count: int) -> list[bytes]:
        """Return the part of a path that stands in the tree's file: one level lies there after the other."""
        path, start = [], 0
        with (self._folder / f"{root}.tree").open("rb") as tree:
            for place in siblings(block, count):
                if place is not None:
                    tree.seek((start + place) * HASH_BYTES)
                    path.append(tree.read(HASH_BYTES))
                start, count = start + count, (count + 1) // 2
        return path

    def _path(self, root: str) -> Path:
        path = self._folder / root
        if not _ROOT.match(root) or not path.is_file():
            raise AgentRefused(f"nothing is kept under {root[:64]}: `commons agent store FILE` keeps a file")
        return path


def _damaged(root: str) -> AgentRefused:
    return AgentRefused(f"what is kept under {root} was damaged: keep the file again, or end its lease")


def _fresh(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")


def _copy(source: BinaryIO, copy: BinaryIO, tree: BinaryIO) -> int:
    """Copy all bytes and write the hash of every block; return how many bytes there were."""
    size = 0
    while piece := source.read(READ_BYTES):
        copy.write(piece)
        size += len(piece)
        for at in range(0, len(piece), BLOCK_BYTES):
            chunks = _chunks(piece[at : at + BLOCK_BYTES])
            tree.write(root_over([leaf_hash(chunk) for chunk in chunks]))
    return size


def _grow(tree: BinaryIO, count: int) -> bytes:
    """Write level after level above the `count` hashes in a file; return the root."""
    start = 0
    while count > 1:
        for at in range(0, count, SPAN):
            tree.seek((start + at) * HASH_BYTES)
            raw = tree.read(min(SPAN, count - at) * HASH_BYTES)
            above = level_above([raw[i : i + HASH_BYTES] for i in range(0, len(raw), HASH_BYTES)])
            tree.seek(0, os.SEEK_END)
            tree.write(b"".join(above))
        start, count = start + count, (count + 1) // 2
    tree.seek(start * HASH_BYTES)
    return tree.read(HASH_BYTES)


def _chunks(raw: bytes) -> list[bytes]:
    """Return the chunks of a piece, the last one padded by zeros."""
    return [raw[at : at + CHUNK_BYTES].ljust(CHUNK_BYTES, b"\x00") for at in range(0, len(raw), CHUNK_BYTES)]


def _block_count(size: int) -> int:
    return -(-size // BLOCK_BYTES)
