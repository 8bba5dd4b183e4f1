"""The agent on a disk of its own that is really full: it says so, goes on metering, and loses nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.agent.home import AgentHome
from services.kernel.jws import raw_public
from tests.agent_given import START, HandClock, agent_home, an_agent, lease_row
from tests.agent_server import AgentServer
from tests.agent_turns import MINUTE, live, whole

KIB = 256


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk in memory; only root may mount one."""
    path, mount = tmp_path / "disk", shutil.which("mount")
    path.mkdir()
    command = [mount or "mount", "-t", "tmpfs", "-o", f"size={KIB}k", "tmpfs", str(path)]
    if mount is None or os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("nothing may be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def fill(disk: Path) -> Path:
    """Take all the room there is, to the last byte."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (4_096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


async def test_a_full_disk_is_said_and_every_reading_is_written_once_there_is_room(disk: Path) -> None:
    clock = HandClock()
    key = AgentHome(disk / "agent").key
    server = AgentServer(clock, key.node, raw_public(key.private), [lease_row()])
    try:
        home = agent_home(disk / "agent", server.url)
        agent = an_agent(home, server.url, clock)
        await live(agent, clock, 3)
        filler = fill(disk)
        await live(agent, clock, 5)
        spoken = {"disk", "spool"} & agent.troubles.now.keys()
        assert spoken, agent.troubles.now
        assert any("full" in agent.troubles.now[each] or "No space" in agent.troubles.now[each] for each in spoken)
        filler.unlink()
        await live(agent, clock, 3)
        assert not {"disk", "spool"} & agent.troubles.now.keys()
        await agent._end()
        again = an_agent(home, server.url, clock)
        await live(again, clock, 1)
        await again._end()
        start, end = whole(server.counted())
        assert start == START
        assert end >= START + 11 * MINUTE
    finally:
        server.close()
