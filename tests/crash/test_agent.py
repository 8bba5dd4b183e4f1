"""The agent and the instance, killed in turn: every moment of the lease is metered, and none twice.

The short form has slices of a second; the long one is the real thing: ten minutes, slices of a minute, an epoch that
closes and pays for it.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from events.genesis import Community
from infra.agent.gpus import NoGpus
from infra.agent.hardware import look
from infra.agent.home import AgentHome, Identity
from infra.agent.registration import Terms, register
from infra.api import HttpApi
from infra.demo.live import live_node
from infra.genesis_file import demo_yaml, read_community
from infra.keys import KeyDirectory, member_key
from services.kernel.jws import parse_jws
from services.metering.batches import spool_lines
from tests.agent_given import HandGpus
from tests.instance import Instance, instance

ROOT = Path(__file__).parents[2]
SHARE = 700


@dataclass
class Machine:
    """An agent's home, its process, and the lease it meters."""

    instance: Instance
    path: Path
    identity: Identity
    lease: str = ""
    process: subprocess.Popen[bytes] | None = None

    def start(self, slice_seconds: int, file_bytes: int = 0) -> None:
        """Start the agent; with `file_bytes` no file of its may grow beyond that, as on a full disk."""
        log = (self.path.parent / "agent.log").open("ab")
        arguments = (str(self.path), self.instance.url, str(slice_seconds), str(file_bytes))
        command = [sys.executable, "-m", "tests.agent_child", *arguments]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
        log.close()

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> int:
        assert self.process
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    @property
    def log(self) -> str:
        return (self.path.parent / "agent.log").read_text()

    def spooled(self) -> list[bytes]:
        paths = sorted((self.path / "spool").glob("*.spool"))
        return [line for path in paths for line in path.read_bytes().splitlines(keepends=True)]


async def joined(made: Instance, path: Path) -> Machine:
    """Register a machine with one GPU under a provider, and lease most of it to the lab."""
    home = AgentHome(path)
    model = f"test-{secrets.token_hex(4)}"  # so that the system has one node to pick
    hardware = look(HandGpus(f"device/{secrets.token_hex(16)}", model), home.device_secret)
    identity, status = await register(home, hardware, Terms("IS"), made.key("aurora"), made.url, made.url)
    assert status == "active"
    machine = Machine(made, path, identity, secrets.token_hex(16))
    now = time.time_ns() // 1_000_000
    lease = {"lease": machine.lease, "share": SHARE, "models": [model], "start_ms": now, "end_ms": now + 3_600_000}
    async with HttpApi(made.url, made.url, identity.genesis) as api:
        body = {"project": "protein-folding", "leases": [lease]}
        opened = await api.authorised(made.key("lab"), "OpenLeases", "/v1/metering/leases", body, secrets.token_hex(8))
    assert opened["leases"][0]["node"] == identity.node
    return machine


@pytest.fixture(scope="module")
def one_instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    with instance(tmp_path_factory.mktemp("agent") / "home") as made:
        made.found()
        yield made


@pytest.fixture
def machine(one_instance: Instance, tmp_path: Path) -> Iterator[Machine]:
    made = asyncio.run(joined(one_instance, tmp_path / "agent"))
    try:
        yield made
    finally:
        if made.process is not None and made.process.poll() is None:
            made.kill()


def recorded(made: Instance, node: str) -> list[tuple[str, list[bytes]]]:
    """Every batch of the node in metering's log: its hash, and its readings as lines of the spool."""
    found, page, params = [], None, {"service": "metering", "stream": node, "limit": 200}
    while page is None or page["next"]:
        page = httpx.get(f"{made.url}/v1/views/audit_trail", params=params, timeout=30, trust_env=False).json()
        for item in page["items"]:
            where = f"{made.url}/v1/views/audit_trail/metering/{item['position']}"
            fact = json.loads(httpx.get(where, timeout=30, trust_env=False).json()["record"])
            if fact["type"] == "metering.readings-recorded.v1":
                assert not fact["data"].get("rejected")
                parse_jws(fact["data"]["jws"])
                found.append((fact["data"]["batch"], list(spool_lines(fact["data"]["jws"]))))
        params["cursor"] = page["next"]
    return found


def check(machine: Machine) -> tuple[int, int]:
    """The log holds exactly the spool's lines, each once, in batches each recorded once, and no moment is missing."""
    batches = recorded(machine.instance, machine.identity.node)
    assert [name for name, count in Counter(name for name, _ in batches).items() if count > 1] == []
    lines = [line for _, lines in batches for line in lines]
    assert Counter(lines) == Counter(machine.spooled())
    readings = sorted((json.loads(line) for line in lines), key=lambda reading: reading[2])
    assert {reading[4] for reading in readings} == {SHARE}
    assert all(one[3] == two[2] for one, two in itertools.pairwise(readings)), "a gap, or a moment twice"
    return readings[0][2], readings[-1][3]


def until(condition: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.soak
def test_readings_arrive_without_gap_and_once_while_the_server_and_the_agent_are_killed(machine: Machine) -> None:
    machine.start(1)
    until(lambda: len(machine.spooled()) >= 2)
    for _ in range(3):
        machine.instance.kill_everything()
        machine.kill()
        machine.start(1)
        machine.instance.start()
        known = len(machine.spooled())
        until(lambda known=known: len(machine.spooled()) > known)
    assert machine.stop() == 0
    start, end = check(machine)
    assert end - start >= 5_000
    receipts = [json.loads(line) for path in (machine.path / "receipts").iterdir() for line in path.open()]
    assert {json.loads(parse_jws(receipt["receipt"]).payload)["node"] for receipt in receipts} == {
        machine.identity.node
    }


@pytest.mark.soak
def test_a_full_spool_disk_is_said_and_loses_nothing(machine: Machine) -> None:
    machine.start(1, file_bytes=500)
    until(lambda: "spool: the disk of the spool is full" in machine.log)
    held = len(machine.spooled())
    time.sleep(1.5)
    assert len(machine.spooled()) == held
    assert all(line.endswith(b"]\n") for line in machine.spooled())
    assert machine.process is not None
    assert machine.process.poll() is None
    machine.kill()
    machine.start(1)
    until(lambda: len(machine.spooled()) > held + 1)
    assert machine.stop() == 0
    check(machine)


@pytest.mark.soak
def test_a_machine_joins_by_the_command_line_and_says_how_it_is(one_instance: Instance, tmp_path: Path) -> None:
    key = tmp_path / "owner.key"
    key.touch(0o600)
    key.write_text(one_instance.key("basalt").private.private_bytes_raw().hex())
    environ = one_instance.environ | {"COMMONS_AGENT_HOME": str(tmp_path / "agent")}
    environ |= {"COMMONS_AGENT_SERVER": one_instance.url, "COMMONS_AGENT_SLICE_SECONDS": "1"}

    def commons(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "infra.cli", "agent", *arguments]
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    made = ("--embodied-kg", "1283.5", "--lifetime-years", "4", "--embodied-source", "datasheet, 2024")
    registered = commons("register", "--owner-key", str(key), "--zone", "IS", "--json", *made)
    assert registered.returncode == 0, registered.stderr
    assert json.loads(registered.stdout)["status"] == "active"
    process = subprocess.Popen([sys.executable, "-m", "infra.cli", "agent", "run"], env=environ, stderr=subprocess.PIPE)
    try:
        until((tmp_path / "agent" / "status.json").exists)
        until(lambda: json.loads((tmp_path / "agent" / "status.json").read_text())["last_heartbeat_minute"])
        status = commons("status", "--json")
        assert status.returncode == 0, status.stdout
        shown = json.loads(status.stdout)
        assert shown["energy_source"] in {"none", "rapl", "nvml-power", "rapl+nvml-power"}
        assert (shown["sample"]["line"] is not None, shown["kinds"]) == (True, {})
    finally:
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 0
    assert "energy: " in said
    log = (tmp_path / "agent" / "log" / "agent.jsonl").read_text().splitlines()
    assert any("energy: " in json.loads(line)["message"] for line in log)


def paying_soon(seed: bytes, epoch_seconds: int) -> Community:
    """The shipped community with short epochs."""
    shipped = read_community(demo_yaml(), lambda handle: member_key(seed, handle).public)
    return msgspec.structs.replace(shipped, epochs=msgspec.structs.replace(shipped.epochs, seconds=epoch_seconds))


def killed_three_times(home: Path, seconds: int, slice_seconds: int, epoch_seconds: int) -> None:
    with instance(home / "home") as made:
        made.found(paying_soon(KeyDirectory(made.home).secret("operator"), epoch_seconds))
        machine = asyncio.run(joined(made, home / "agent"))
        machine.start(slice_seconds)
        began = time.monotonic()
        try:
            for part in (2, 5, 8):
                time.sleep(max(0, began + seconds * part / 10 - time.monotonic()))
                made.kill_everything()
                time.sleep(seconds / 30)
                made.start()
            time.sleep(max(0, began + seconds + 5 - time.monotonic()))
            assert machine.stop() == 0
        finally:
            machine.kill()
        start, end = check(machine)
        assert end - start >= seconds * 1_000

        def paid() -> bool:
            page = httpx.get(f"{made.url}/v1/views/epochs", params={"limit": 200}, timeout=30, trust_env=False).json()
            return any(int(epoch["paid"] or 0) > 0 for epoch in page["items"])

        until(paid, epoch_seconds + 60)


@pytest.mark.soak
def test_ten_minutes_against_a_server_killed_three_times_leave_no_gap_and_are_paid(tmp_path: Path) -> None:
    killed_three_times(tmp_path, 600, 60, 300)


@pytest.mark.soak
async def test_this_machine_earns_by_its_cores_in_an_epoch_that_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMMONS_AGENT_SLICE_SECONDS", "1")
    monkeypatch.setattr("infra.demo.live.open_gpus", lambda _secret: (NoGpus(), "none"))  # as where there is none
    with instance(tmp_path / "home") as made:
        soon = paying_soon(KeyDirectory(made.home).secret("operator"), 15)
        await asyncio.to_thread(made.found, soon)
        said: list[str] = []
        async with live_node(made.settings, said.append) as joined, httpx.AsyncClient(trust_env=False) as client:
            assert joined, said
            assert joined.lease, said

            async def rows() -> list[Any]:
                params = {"node": joined.identity.node, "kind": "cpu"}
                return (await client.get(f"{made.url}/v1/views/scores", params=params)).json()["items"]

            deadline = time.monotonic() + 90
            while not any(int(row["reward"]) for row in await rows()):
                assert time.monotonic() < deadline, (await rows(), made.log())
                await asyncio.sleep(0.5)
            row = next(row for row in await rows() if int(row["reward"]))
    assert [device["work_class"] for device in row["devices"]] == ["cpu"]
    assert int(row["held"]) == (int(row["reward"]) + int(row["held"])) // 10
    # The floor: 0.05 x 0.211324 of one core's hours, at most 5 COMPUTE each.
    score = int(row["devices"][0]["share_milli_ms"]) * 500 * 211_324 // (3_600_000_000 * 10_000)
    assert abs(int(row["micro_rgpu_hours"]) - score) <= 1
    assert int(row["reward"]) + int(row["held"]) <= 5 * int(row["micro_rgpu_hours"])
