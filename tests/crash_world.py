"""An instance to be killed: its roles, a broker behind a network that can be cut, a PostgreSQL, load, and a ledger."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import psutil
import pytest

from events.genesis import Community, Limits
from infra.genesis_file import demo_yaml, read_community
from infra.kafka.broker import NativeKafka, free_ports
from infra.kafka.classpath import NoNativeKafka
from infra.kafka.topics import Cluster
from infra.keys import KeyDirectory, member_key
from infra.postgres.embedded import EmbeddedPostgres
from services.registry.genesis import sha256
from tests.instance import Instance
from tests.kill_points import CRASH_FILE, JOINING, LEAVING, REBUILD, RELAUNCHED, Point, arm
from tests.nothing_lost import Ledger
from tests.proxy import Proxy
from tests.roles import Roles, fresh_database, settings
from tests.seeded_load import Writer, goes_on, load

DIES_SECONDS = 60
EPOCH_SECONDS = 3
RELAYS = ("relay:registry", "relay:metering", "relay:treasury")
SECOND = "follow again"


class ReachedByProxy(NativeKafka):
    """Brokers that clients reach through a proxy each."""

    def __init__(self, folder: Path, brokers: int = 1) -> None:
        super().__init__(folder, brokers)
        ports = free_ports(brokers)
        self.proxies = [Proxy(port, self._ports[number][0]) for number, port in enumerate(ports, 1)]

    def _properties(self, number: int, folder: Path) -> dict[str, str]:
        there = f"PLAINTEXT://127.0.0.1:{self.proxies[number - 1].port}"
        return {**super()._properties(number, folder), "advertised.listeners": there}


@dataclass
class Ground:
    """What worlds stand on: brokers and a database server."""

    brokers: ReachedByProxy
    server: EmbeddedPostgres

    def cluster(self, partitions: int) -> Cluster:
        replication = min(len(self.brokers.numbers), 3)
        return Cluster(self.brokers.bootstrap, partitions, replication, prefix=f"c{uuid4().hex[:8]}.")

    def kill_database(self) -> None:
        assert self.server.pid is not None
        psutil.Process(self.server.pid).kill()
        deadline = time.monotonic() + DIES_SECONDS
        while not self.server.ensure_running():  # it is gone once its parent, who is this process, has noticed
            assert time.monotonic() < deadline, "the database does not die"
            time.sleep(0.05)

    def restart_broker(self, dice: random.Random) -> None:
        number = dice.choice(self.brokers.numbers)
        self.brokers.kill(number)
        self.brokers.launch(number)
        self.brokers.wait_ready(len(self.brokers.numbers))


@contextmanager
def ground(folder: Path, brokers: int = 1) -> Iterator[Ground]:
    """Native brokers and an embedded PostgreSQL; skipped where there are none, and under CI a failure."""
    try:
        made = ReachedByProxy(folder / "kafka", brokers)
    except NoNativeKafka as missing:
        if "CI" in os.environ:
            raise
        pytest.skip(f"needs native brokers: {missing}")
    server = EmbeddedPostgres(folder / "postgres", settings={"max_connections": "300"})
    with ExitStack() as stack:
        for proxy in made.proxies:
            proxy.start()
            stack.callback(proxy.stop)
        stack.callback(server.stop)
        server.start()
        stack.callback(made.stop)
        made.start()
        yield Ground(made, server)


@dataclass
class CrashWorld:
    """A founded instance under load."""

    ground: Ground
    instance: Roles
    ledger: Ledger
    folder: Path
    writers: list[Writer] = field(default_factory=list)

    def fault_file(self, name: str) -> Path:
        return self.folder / name.replace(":", "-").replace(" ", "-")

    def start(self, role: str, name: str = "") -> None:
        self.instance.start_role(role, name, {CRASH_FILE: str(self.fault_file(name or role))})

    def dies(self, name: str, point: Point) -> None:
        """Wait until the process is dead, killed where it should be."""
        process = self.instance.running[name]
        try:
            status = process.wait(DIES_SECONDS)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{name} never passes {point.name!r}\n{self.instance.log()}") from None
        assert status == -signal.SIGKILL, f"{name} ended with {status}\n{self.instance.log()}"
        assert not self.fault_file(name).exists(), f"{name} was killed elsewhere than at {point.name!r}"

    def strike(self, point: Point, dice: random.Random) -> None:
        """Let a process die at the point, and start it again."""
        passages = dice.randrange(3)
        strikes: dict[str, Callable[[Point, int], None]] = {
            JOINING: self._joining,
            LEAVING: self._leaving,
            REBUILD: self._rebuilding,
        }
        if point.role in strikes:
            strikes[point.role](point, passages)
            return
        name = dice.choice(RELAYS) if point.role in {"relay", RELAUNCHED} else point.role
        arm(self.fault_file(name), point, 0 if point.role == RELAUNCHED else passages)
        if point.role == RELAUNCHED:
            assert self.instance.stop_role(name) == 0
            self.start(name)
        self.dies(name, point)
        self.start(name)

    def _joining(self, point: Point, passages: int) -> None:
        arm(self.fault_file(SECOND), point, passages)
        self.start("follow", SECOND)
        self.dies(SECOND, point)
        del self.instance.running[SECOND]

    def _leaving(self, point: Point, passages: int) -> None:
        arm(self.fault_file("follow"), point, passages)
        self.start("follow", SECOND)
        self.dies("follow", point)
        self.start("follow")
        assert self.instance.stop_role(SECOND) == 0, self.instance.log()

    def _rebuilding(self, point: Point, passages: int) -> None:
        arm(self.fault_file(REBUILD), point, passages)
        environ = self.instance.environ | {CRASH_FILE: str(self.fault_file(REBUILD))}
        command = [sys.executable, "-m", self.instance.module, "rebuild"]
        with (self.folder / "rebuild.log").open("ab") as log:
            self.instance.running[REBUILD] = subprocess.Popen(command, env=environ, stdout=log, stderr=log)
        self.dies(REBUILD, point)
        del self.instance.running[REBUILD]

    def outage(self, kind: str, dice: random.Random) -> None:
        """Take something away for a moment that the processes live by."""
        seconds = 0.3 + 2 * dice.random()
        proxies = self.ground.brokers.proxies
        cuts: dict[str, Callable[[Proxy], AbstractContextManager[Any]]] = {"cut": Proxy.cut, "silent": Proxy.silent}
        if kind in cuts:
            with ExitStack() as stack:
                for proxy in proxies:
                    stack.enter_context(cuts[kind](proxy))
                time.sleep(seconds)
        elif kind == "broker":
            self.ground.restart_broker(dice)
        elif kind == "database":
            self.ground.kill_database()

    def check(self) -> None:
        """See that everybody else lives, that callers are served, and that nothing was lost or doubled."""
        self.instance.wait_ready()
        goes_on(self.writers)
        self.ledger.check(self.writers)
        for name, process in self.instance.running.items():
            assert process.poll() is None, f"{name} ended with {process.returncode}\n{self.instance.log()}"


@contextmanager
def crash_world(ground: Ground, folder: Path, seed: str, partitions: int = 6) -> Iterator[CrashWorld]:
    """Found a community, serve it by a process per role, and let callers write until the context ends."""
    cluster = ground.cluster(partitions)
    with fresh_database(ground.server.dsn) as dsn:
        instance = Roles(folder / "home", extra=settings(cluster, dsn), module="tests.kill_points")
        world = CrashWorld(ground, instance, Ledger(instance, cluster, dsn), folder)
        try:
            for role in ("http", "follow", "clock", *RELAYS):
                world.start(role)
            instance.wait_ready()
            genesis = sha256(instance.found(community_of(instance)))
            _wait_for_accounts(instance)
            with load(instance, genesis, seed) as world.writers:
                yield world
            world.ledger.check(world.writers)
            wrong = {name: status for name, status in instance.statuses().items() if status}
            assert not wrong, f"did not stop as asked: {wrong}\n{instance.log()}"
        finally:
            instance.kill_everything()


def community_of(instance: Instance) -> Community:
    """The shipped community, but its epochs are short: so the clock has something to do, and all three services."""
    seed = KeyDirectory(instance.home).secret("operator")
    shipped = read_community(demo_yaml(), lambda handle: member_key(seed, handle).public)
    epochs = msgspec.structs.replace(shipped.epochs, seconds=EPOCH_SECONDS)
    return msgspec.structs.replace(shipped, epochs=epochs, limits=Limits(commands_per_minute=60_000))


def _wait_for_accounts(instance: Roles) -> None:
    account, deadline = f"{instance.url}/v1/views/balances/{instance.key('lab').member}", time.monotonic() + 60
    while httpx.get(account, trust_env=False).status_code != 200:
        assert time.monotonic() < deadline, instance.log()
        time.sleep(0.1)
