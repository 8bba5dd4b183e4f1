from __future__ import annotations

from pathlib import Path

import pytest

from infra.agent.cursor import Cursor, Pending, read_cursor
from infra.agent.home import AgentHome, AgentRefused, Mark
from infra.agent.settings import read_agent_settings
from infra.agent.troubles import Troubles
from infra.settings import SettingRefused


def test_the_agents_settings_have_defaults_and_are_checked() -> None:
    settings = read_agent_settings({})
    assert (settings.server, settings.slice_ms, settings.spool_bytes) == ("http://127.0.0.1:8700", 60_000, 256 * 2**20)
    for name, value in (
        ("COMMONS_AGENT_SLICE_SECONDS", "301"),
        ("COMMONS_AGENT_SLICE_SECONDS", "0"),
        ("COMMONS_AGENT_SPOOL_MIB", "lots"),
        ("COMMONS_AGENT_SERVER", "commons.example"),
        ("COMMONS_AGENT_SERVR", "http://x"),
    ):
        with pytest.raises(SettingRefused, match=name):
            read_agent_settings({name: value})


def test_a_home_belongs_to_one_agent_at_a_time(tmp_path: Path) -> None:
    home = AgentHome(tmp_path / "agent")
    assert not home.running()
    with home.locked():
        assert home.running()
        with pytest.raises(AgentRefused, match="another agent runs"), AgentHome(tmp_path / "agent").locked():
            pass
    assert not home.running()
    assert (tmp_path / "agent").stat().st_mode & 0o777 == 0o700


def test_an_agent_that_is_not_registered_says_how(tmp_path: Path) -> None:
    with pytest.raises(AgentRefused, match="commons agent register"):
        AgentHome(tmp_path).identity()


def test_a_mark_that_a_crash_spoilt_is_no_mark(tmp_path: Path) -> None:
    home = AgentHome(tmp_path)
    assert home.mark() is None
    home.keep_mark(Mark(1, 2, ((3, 4, "ff"),)))
    assert home.mark() == Mark(1, 2, ((3, 4, "ff"),))
    (tmp_path / "mark.json").write_bytes(b'{"at_')
    assert home.mark() is None


def test_the_cursor_remembers_what_was_on_its_way(tmp_path: Path) -> None:
    path = tmp_path / "cursor.json"
    cursor = read_cursor(path)
    cursor.hour(7).acknowledged = 3
    cursor.pending = [Pending(0, 7, 3, 5, 0, 0)]
    cursor.save(path)
    assert read_cursor(path) == cursor
    assert not cursor.done(7)
    cursor.hour(7).sealed, cursor.hour(7).sealed_lines, cursor.hour(7).told = "ff", 3, True
    assert cursor.done(7)
    assert Cursor().hours == {}


def test_a_trouble_is_said_when_it_begins_and_when_it_ends() -> None:
    said: list[str] = []
    troubles = Troubles(said.append)
    for sentence in (None, "the disk is full, 3 lines wait", "the disk is full, 3 lines wait", None, None):
        troubles.set("spool", sentence)
    assert said == ["spool: the disk is full, 3 lines wait", "spool: well again"]
