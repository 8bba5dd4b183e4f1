"""The agent's own settings: rows of the one table, parsed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.agent.slicing import MOST_SLICE_MS
from infra.settings import SETTINGS, SettingRefused, parts_of, read_settings

LEAST_MIB: Final = 1
MOST_MIB: Final = 1_048_576


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Where the agent lives, whom it reports to, how long its slices are, and how much its spool may take."""

    home: Path
    server: str
    slice_ms: int
    spool_bytes: int
    log_level: str
    log_format: str = "auto"


def read_agent_settings(environ: Mapping[str, str] | None = None) -> AgentSettings:
    """Return the agent's settings. Raises SettingRefused."""
    environ = os.environ if environ is None else environ
    whole = read_settings(environ)
    defaults = {setting.name: setting.default for setting in SETTINGS}

    def value(name: str) -> str:
        return environ.get(name) or defaults[name]

    server = value("COMMONS_AGENT_SERVER")
    address = parts_of("COMMONS_AGENT_SERVER", server)
    if address.scheme not in {"http", "https"} or not address.netloc:
        raise SettingRefused(f"COMMONS_AGENT_SERVER={server} must be an http or https URL")
    seconds = _whole("COMMONS_AGENT_SLICE_SECONDS", value("COMMONS_AGENT_SLICE_SECONDS"), 1, MOST_SLICE_MS // 1_000)
    mib = _whole("COMMONS_AGENT_SPOOL_MIB", value("COMMONS_AGENT_SPOOL_MIB"), LEAST_MIB, MOST_MIB)
    home = Path(value("COMMONS_AGENT_HOME")).resolve()
    return AgentSettings(home, server.rstrip("/"), seconds * 1_000, mib * 2**20, whole.log_level, whole.log_format)


def _whole(name: str, text: str, least: int, most: int) -> int:
    if not text.isdecimal() or not least <= int(text) <= most:
        raise SettingRefused(f"{name}={text} must be a whole number from {least} to {most}")
    return int(text)
