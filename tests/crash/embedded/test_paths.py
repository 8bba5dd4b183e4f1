"""Long paths, closed directories, packages that the server's account cannot read."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from infra.postgres import binaries
from tests.crash.embedded.lab import (
    Make,
    mode,
    needs_root,
    query,
)


@pytest.mark.parametrize("name", ["deep" * 30, "a comma, which libpq takes for two hosts"])
def test_a_home_whose_path_is_no_socket_path_gets_a_private_socket_directory(
    make: Make, tmp_path: Path, name: str
) -> None:
    server = make(at=tmp_path / name)
    assert query(server.start(), "SELECT 1") == 1
    private = Path(server.place.short_directory_note.read_text())
    assert not private.is_relative_to(server.place.home)
    assert mode(private) == mode(private / "s") == 0o700
    server.stop()
    assert not private.exists()
    assert query(server.start(), "SELECT 1") == 1


def test_no_directory_above_the_home_is_opened(make: Make, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    before = [mode(path) for path in (closed, *closed.parents)]
    server = make(at=closed / "home with spaces and 'quotes' %41")
    assert query(server.start(), "SELECT 1") == 1
    assert [mode(path) for path in (closed, *closed.parents)] == before


@needs_root
def test_as_root_the_server_runs_as_nobody_and_a_package_it_cannot_read_is_copied_once(tmp_path: Path) -> None:
    account = binaries.server_account("nobody")
    hidden = tmp_path / "site"
    hidden.mkdir(mode=0o700)
    package = binaries._installed_wheel()
    shutil.copytree(package / "pginstall18", hidden / package.name / "pginstall18")
    shutil.copytree(package.with_name(f"{package.name}.libs"), hidden / f"{package.name}.libs")
    shelf = Path(tempfile.mkdtemp(dir="/tmp")) / "shelf"
    shelf.parent.chmod(0o755)
    try:
        found = binaries.locate(account, wheel=hidden / package.name, shelves=[tmp_path / "closed too", shelf])
        assert found.is_relative_to(shelf)
        assert mode(hidden) == mode(tmp_path) == 0o700
        assert not mode(shelf) & 0o022
        before = found.stat().st_ino
        again = binaries.locate(account, wheel=hidden / package.name, shelves=[shelf])
        assert again.stat().st_ino == before
        subprocess.run([found / "initdb", "--version"], user=account.uid, cwd="/", check=True)
    finally:
        shutil.rmtree(shelf.parent)


@needs_root
def test_a_place_for_copies_that_others_can_write_is_not_used(tmp_path: Path) -> None:
    laid_out = tmp_path / "shelf"
    laid_out.mkdir()
    laid_out.chmod(0o777)
    with pytest.raises(PermissionError):
        binaries._claim_shelf(laid_out)
