"""The spool: its bytes are published, so they are golden here; and what a crash, an alteration or a full disk does."""

from __future__ import annotations

import hashlib
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from events.spool import spool_hash, spool_line, spool_next, spool_start
from infra.agent.spool import Spool, SpoolAltered, SpoolFull, read_line

NODE = "node/" + "a" * 32
HOUR = 495_000
LINES = [spool_line("device/" + "d" * 32, "1" * 32, at, at + 60_000, 1_000) for at in range(0, 180_000, 60_000)]


def test_a_line_and_the_chain_have_the_published_bytes() -> None:
    assert LINES[0] == b'["device/' + b"d" * 32 + b'","' + b"1" * 32 + b'",0,60000,1000]\n'
    first = hashlib.sha256(b"commons.spool/1\nnode/" + b"a" * 32 + b"\n495000\n").digest()
    assert spool_start(NODE, HOUR) == first
    assert spool_next(first, LINES[0]) == hashlib.sha256(first + LINES[0]).digest()
    golden = "c3c0c111ed0ffcee345ca28a03bbf087916c1c20e3d43d59ba6fa5d0d214bb22"
    assert spool_hash(NODE, HOUR, LINES).hex() == golden


def test_what_was_appended_is_there_after_a_restart_with_the_same_hash(tmp_path: Path) -> None:
    spool = Spool(tmp_path, NODE, 2**20)
    spool.append(HOUR, LINES[:1])
    spool.append(HOUR, LINES[1:])
    again = Spool(tmp_path, NODE, 2**20)
    assert again.lines(HOUR) == LINES
    assert again.head(HOUR) == spool.head(HOUR)
    assert again.head(HOUR).running == spool_hash(NODE, HOUR, LINES)
    assert again.size() == spool.size() == sum(map(len, LINES))


def test_a_line_that_a_crash_cut_off_does_not_count_and_is_mended(tmp_path: Path) -> None:
    Spool(tmp_path, NODE, 2**20).append(HOUR, LINES[:1])
    path = tmp_path / f"{HOUR}.spool"
    path.write_bytes(path.read_bytes() + LINES[1][:20])
    spool = Spool(tmp_path, NODE, 2**20)
    assert spool.lines(HOUR) == LINES[:1]
    spool.append(HOUR, LINES[1:])
    assert path.read_bytes() == b"".join(LINES)
    assert spool.head(HOUR).running == spool_hash(NODE, HOUR, LINES)


@pytest.mark.parametrize(
    "line", [b"[]\n", b'["d","l",1,2,3.5]\n', b'["d", "l",1,2,3]\n', b'["d","l",1,2]\n', b"\xff\n"]
)
def test_bytes_that_are_no_line_are_refused(line: bytes) -> None:
    with pytest.raises(SpoolAltered):
        read_line(line)


@contextmanager
def room(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond so many bytes: what a full disk is like."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_refuses_the_whole_append_and_harms_nothing(tmp_path: Path) -> None:
    spool = Spool(tmp_path, NODE, 2**20)
    spool.append(HOUR, LINES[:1])
    with room(len(LINES[0]) + 30), pytest.raises(SpoolFull, match="disk of the spool is full"):
        spool.append(HOUR, LINES[1:])
    assert (tmp_path / f"{HOUR}.spool").read_bytes() == LINES[0]
    assert spool.head(HOUR).lines == 1
    spool.append(HOUR, LINES[1:])
    assert spool.head(HOUR).running == spool_hash(NODE, HOUR, LINES)


def test_at_its_limit_the_spool_drops_acknowledged_hours_only(tmp_path: Path) -> None:
    size = sum(map(len, LINES))
    spool = Spool(tmp_path, NODE, 3 * size)
    for hour in range(3):
        spool.append(hour, LINES)
    with pytest.raises(SpoolFull, match="none acknowledged"):
        spool.append(3, LINES)
    assert spool.drop(lambda hour: hour == 1, to_bytes=size) == [1]
    spool.append(3, LINES)
    assert spool.hours() == [0, 2, 3]
    assert spool.size() == 3 * size
