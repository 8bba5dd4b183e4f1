"""Logs: lines for people or JSON on stderr, and JSON files under the home that never grow beyond their limit.

A line holds time, level, where it comes from, what it says, and the fields of its kind. Secrets have no business in
messages; what looks like one (a password in an address, a bearer token, an Authorization header) is struck out anyway.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final, Protocol

import msgspec

from events.telemetry import current, ids_of
from infra.home import private_folder

FILE_BYTES: Final = 16 << 20
FILES: Final = 5
"""A log file is closed at 16 MiB; the last five closed ones are kept."""

SAID: Final = "commons.said"
"""What a process tells people; on its terminal they have read it already."""

FIELDS: Final = "fields"
"""`extra={FIELDS: {...}}` adds fields to a line of the files."""

_SECRETS: Final = (
    (re.compile(r"(postgres(?:ql)?://[^\s:/@]*):[^\s/]*@"), r"\1:***@"),
    (re.compile(r"([?&](?:ssl)?password=)[^&\s]*"), r"\1***"),
    (re.compile(r"(?i)\b(bearer|authorization:?)\s+\S+"), r"\1 ***"),
)


class JsonLines(logging.Formatter):
    """One JSON object per line; `trace_id` and `span_id` are empty outside of a trace."""

    def __init__(self, process: str) -> None:
        """Name the process in every line."""
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        trace_id, span_id = ids_of(current())
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "logger": record.name,
            "message": struck(record.getMessage()),
            "trace_id": trace_id,
            "span_id": span_id,
        }
        line |= getattr(record, FIELDS, {})
        if record.exc_info:
            line["error"] = struck(self.formatException(record.exc_info))
        return msgspec.json.encode(line, enc_hook=str).decode()


class TextLines(logging.Formatter):
    """A line for people."""

    def __init__(self) -> None:
        """Use the house's form."""
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        return struck(super().format(record))


class PrivateFile(RotatingFileHandler):
    """A log file only its owner can read, rotated by size; where it cannot be written the work goes on unheard."""

    def _open(self) -> TextIOWrapper:
        return os.fdopen(
            os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a", encoding="utf-8"
        )

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Say nothing: a full disk must not fill stderr too."""


class LogSettings(Protocol):
    """What logging needs to know, of an instance or of an agent: where, from which level on, in which form."""

    @property
    def home(self) -> Path:
        """The folder under which `log/` lies."""
        ...

    @property
    def log_level(self) -> str:
        """debug, info, warning or error."""
        ...

    @property
    def log_format(self) -> str:
        """text, json or auto."""
        ...


def start_logging(settings: LogSettings, process: str) -> None:
    """Log to stderr in the form the settings ask for, and to `log/<process>.jsonl` under the home."""
    on_terminal = sys.stderr.isatty()
    text = settings.log_format == "text" or (settings.log_format == "auto" and on_terminal)
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter(TextLines() if text else JsonLines(process))
    root, said = logging.getLogger(), logging.getLogger(SAID)
    handlers: list[logging.Handler] = [stderr]
    if (file := _file(settings.home, process)) is not None:
        handlers.append(file)
        said.handlers = [file]
    root.handlers = handlers
    root.setLevel(settings.log_level.upper())
    said.propagate = False
    said.setLevel(logging.INFO)
    # The driver prints a trace at each try while the database is away; the platform says so once.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)


def noted(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return a `say` whose lines stand in the log file too."""

    def both(text: str) -> None:
        say(text)
        logging.getLogger(SAID).info("%s", text)

    return both


def struck(text: str) -> str:
    """Return the text without what looks like a secret."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text


def _file(home: Path, process: str) -> PrivateFile | None:
    try:
        path = private_folder(home, "log") / f"{process}.jsonl"
        handler = PrivateFile(path, maxBytes=FILE_BYTES, backupCount=FILES, encoding="utf-8")
    except OSError:  # a full disk, a home of another: the terminal still hears
        return None
    handler.setFormatter(JsonLines(process))
    return handler
