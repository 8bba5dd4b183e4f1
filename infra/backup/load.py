"""Brings a dump into a database, all of it or nothing: what stood in its way is renamed, nothing is deleted."""

from __future__ import annotations

import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import IO

from infra.postgres.programs import Programs, finish

Dump = Callable[[], Iterator[bytes]]
"""Called for each pass over the dump's bytes."""


def load(tools: Programs, dump: Dump, chosen: Sequence[str], rename: Iterable[tuple[str, str]]) -> None:
    """Restore the schemas `chosen`, after renaming others that stand in their way. Raises ProgramFailed.

    The commit is written only after pg_restore has ended well: a dump that breaks off leaves the database as it was.
    """
    listed = _entries(tools, dump, set(chosen))
    psql = tools.start(
        "psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert psql.stdin is not None
    try:
        with suppress(BrokenPipeError):
            _write(psql.stdin, _preamble(rename))
            _convert(tools, dump, listed, psql.stdin)
            _write(psql.stdin, "\nCOMMIT;\n")
            psql.stdin.close()
        finish(psql, "psql")
    finally:
        if psql.poll() is None:
            psql.kill()
            psql.wait()


def _preamble(rename: Iterable[tuple[str, str]]) -> str:
    return "BEGIN;\n" + "".join(f'ALTER SCHEMA "{old}" RENAME TO "{new}";\n' for old, new in rename)


def _entries(tools: Programs, dump: Dump, chosen: set[str]) -> str:
    """Return the lines of the dump's table of contents that belong to the schemas chosen."""
    process = tools.convert("--list", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    feeding = _feed(process, dump)
    assert process.stdout is not None
    told = process.stdout.read().decode()
    finish(process, "pg_restore")
    feeding.join()
    return "".join(f"{line}\n" for line in told.splitlines() if _schema_of(line) in chosen)


def _schema_of(line: str) -> str:
    """Return the schema of `9; 2615 163 SCHEMA - registry commons` or `215; 1259 164 TABLE registry events commons`.

    A description may have several words (TABLE DATA, INDEX ATTACH); the schema is the first word in small letters.
    """
    words = line.partition("; ")[2].split()[2:]
    if words[:2] == ["SCHEMA", "-"]:
        return words[2]
    return next((word for word in words if word == "-" or not word.isupper()), "")


def _convert(tools: Programs, dump: Dump, listed: str, into: IO[bytes]) -> None:
    """Let pg_restore write the SQL of the entries listed into psql."""
    with _list_file(listed) as use_list:
        arguments = (f"--use-list={use_list.name}", "--no-owner", "--no-privileges", "--exit-on-error", "--file=-")
        process = tools.convert(*arguments, stdin=subprocess.PIPE, stdout=into)
        try:
            feeding = _feed(process, dump)
            finish(process, "pg_restore")
            feeding.join()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()


def _list_file(listed: str) -> IO[str]:
    made = tempfile.NamedTemporaryFile("w", prefix="commons-", suffix=".list")  # noqa: SIM115 - the caller closes it
    made.write(listed)
    made.flush()
    return made


def _feed(process: subprocess.Popen[bytes], dump: Dump) -> threading.Thread:
    """Write the dump to a program's stdin beside what it does; one that has read enough may close it."""

    def feed() -> None:
        assert process.stdin is not None
        with suppress(BrokenPipeError, ValueError):
            for chunk in dump():
                process.stdin.write(chunk)
        with suppress(BrokenPipeError):
            process.stdin.close()

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    return thread


def _write(pipe: IO[bytes], text: str) -> None:
    pipe.write(text.encode())
    pipe.flush()
