"""What the agent's readings say of storage and bandwidth: what is really kept, and whether there is a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.agent.gpus import NoGpus
from infra.agent.home import AgentHome
from infra.agent.line import Line
from infra.agent.status import read_status
from infra.agent.store import Store
from infra.cli.agent import _shown
from services.kernel.jws import raw_public
from tests.agent_given import HOUR_MS, START, HandClock, agent_home, an_agent, lease_row
from tests.agent_server import AgentServer
from tests.agent_turns import MINUTE, live, turn
from tests.storage_world import content_of

DISK, WIRE = "device/" + "5" * 32, "device/" + "b" * 32
UP, DOWN = Line(("eth7",), 12_000, 34_000), Line(())
CONTENT = content_of(2_000_001)
"""Two megabytes and a byte: three are leased."""


def disk_row(root: str, **more: Any) -> dict[str, Any]:
    named = {"content_root": root, "content_bytes": len(CONTENT), "devices": [{"device": DISK, "model": "disk"}]}
    row: dict[str, Any] = lease_row(share=3, lease="5" * 32, kind="storage") | named
    return row | more


def line_row(**more: Any) -> Any:
    return lease_row(share=1_250, lease="b" * 32, kind="bandwidth", devices=[{"device": WIRE, "model": "line"}]) | more


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def home(tmp_path: Path) -> AgentHome:
    return agent_home(tmp_path / "agent", "http://server.example")


@pytest.fixture
def server(home: AgentHome, clock: HandClock) -> Iterator[AgentServer]:
    made = AgentServer(clock, home.key.node, raw_public(home.key.private))
    yield made
    made.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def root(tmp_path: Path, source: Path) -> str:
    return Store(AgentHome(tmp_path / "elsewhere").path).keep(source).root


def shown(home: AgentHome) -> dict[str, Any]:
    status = read_status(home.path)
    assert status
    return _shown(status, running=True)


def levels(server: AgentServer, device: str) -> list[int]:
    readings = [reading for reading in server.counted() if reading[0] == device]
    assert [reading[2] for reading in readings] == [START + i * MINUTE for i in range(len(readings))]
    return [reading[4] for reading in readings]


async def test_storage_reads_its_share_only_while_the_whole_content_is_kept(
    server: AgentServer, home: AgentHome, clock: HandClock, source: Path, root: str
) -> None:
    server.leases = [disk_row(root)]
    agent = an_agent(home, server.url, clock, gpus=NoGpus())
    await live(agent, clock, 1)
    kept = Store(home.path).keep(source)
    assert (kept.root, kept.mb) == (root, 3)
    await live(agent, clock, 3)
    with (home.path / "stored" / root).open("r+b") as file:
        file.truncate(len(CONTENT) - 1)
    await live(agent, clock, 1)
    (home.path / "stored" / root).unlink()
    await live(agent, clock, 1)
    assert levels(server, DISK) == [0, 0, 3, 3, 0, 0], "it came after the second one had begun"
    await agent._end()


async def test_bandwidth_reads_its_share_only_while_the_line_is_up(
    server: AgentServer, home: AgentHome, clock: HandClock
) -> None:
    server.leases = [line_row()]
    looks = [UP]
    agent = an_agent(home, server.url, clock, line=lambda: looks[-1], gpus=NoGpus())
    await live(agent, clock, 2)
    clock.move(1_000)
    looks.append(DOWN)
    await agent._tick()
    looks.append(UP)
    clock.move(MINUTE - 1_000)
    await live(agent, clock, 1)
    assert levels(server, WIRE) == [1_250, 1_250, 0, 1_250], "a second of a minute takes all of it"
    await agent._end()


async def test_what_was_not_served_before_a_kill_is_not_vouched_for_after_it(
    server: AgentServer, home: AgentHome, clock: HandClock, source: Path, root: str
) -> None:
    server.leases = [disk_row(root)]
    agent = an_agent(home, server.url, clock, gpus=NoGpus())
    await turn(agent)
    clock.move(30_000)
    await turn(agent)
    await agent.link.close()
    Store(home.path).keep(source)
    clock.move(HOUR_MS // 2)
    again = an_agent(home, server.url, clock, gpus=NoGpus())
    await turn(again)
    assert [reading[2:] for reading in server.counted()] == [(START, START + 30_000, 0)]
    await again._end()


async def test_status_and_samples_say_of_each_kind_what_is_leased_read_and_busy(
    server: AgentServer, home: AgentHome, clock: HandClock, source: Path, root: str
) -> None:
    server.leases = [disk_row(root), disk_row("0" * 64, lease="6" * 32), line_row()]
    Store(home.path).keep(source)
    looks = [UP]
    agent = an_agent(home, server.url, clock, line=lambda: looks[-1], gpus=NoGpus())
    await live(agent, clock, 1)
    assert (
        shown(home).items()
        >= {
            "storage leased": "2: readings say 3 of 6 MB",
            "bandwidth leased": "1: readings say 1,250 of 1,250 kB/s",
            "kept for leases": "2,000,001 bytes",
            "line": "up over eth7",
            "line since boot": "12,000 bytes sent, 34,000 received",
        }.items()
    )
    looks.append(DOWN)
    clock.move(1_000)
    await turn(agent)
    now = shown(home)
    assert now["bandwidth leased"] == "1: readings say 0 of 1,250 kB/s"
    assert now["line"] == "down: no default route that is up"
    assert "line since boot" not in now
    (path,) = (home.path / "samples").glob("*.jsonl")
    first = json.loads(path.read_text().splitlines()[0])
    assert (first["line"], first["network_sent_bytes"], first["stored_bytes"]) == (["eth7"], 12_000, len(CONTENT))
    assert 0 < first["disk_used_mib"] <= first["disk_total_mib"]
    await agent._end()


def test_a_status_of_the_release_before_can_still_be_shown(home: AgentHome) -> None:
    sample: dict[str, Any] = dict.fromkeys(("at_ms", "cpu_milli", "memory_mib", "disk_used_mib", "disk_read_bytes"), 1)
    sample |= dict.fromkeys(("disk_written_bytes", "network_sent_bytes", "network_received_bytes"), 1)
    words: dict[str, Any] = {"node": "node/1", "owner": "member/1", "server": "http://x", "energy_source": "none"}
    counts = ("started_ms", "at_ms", "clock_offset_ms", "last_heartbeat_minute", "spool_hours", "spool_bytes")
    status = words | dict.fromkeys((*counts, "unacknowledged_readings"), 1) | {"clock_trusted": True, "leases": []}
    sample |= {"energy_source": "none", "energy_microjoules": 0, "gpus": []}
    (home.path / "status.json").write_text(json.dumps(status | {"troubles": {}, "sample": sample}))
    assert not {"line", "kept for leases", "disk"} & shown(home).keys(), "it did not look"
