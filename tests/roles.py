"""A whole instance with each role in a process of its own, on Kafka and a PostgreSQL that is not its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psutil
import psycopg
from psycopg.sql import SQL, Identifier

from events.facts import FACTS_BY_SERVICE
from infra.kafka.topics import Cluster
from tests.instance import Instance
from tests.kafka_source import KafkaSource, skip_unless_real

ROLES = ("http", "follow", "clock", *(f"relay:{service}" for service in FACTS_BY_SERVICE))
STOP_SECONDS = 60


def settings(cluster: Cluster, dsn: str) -> dict[str, str]:
    """What every process of the instance is told."""
    return {
        "COMMONS_DATABASE": dsn,
        "COMMONS_BUS": f"kafka://{cluster.bootstrap}",
        "COMMONS_KAFKA_PARTITIONS": str(cluster.partitions),
        "COMMONS_KAFKA_REPLICATION": str(cluster.replication),
        "COMMONS_KAFKA_PREFIX": cluster.prefix,
    }


@dataclass
class Roles(Instance):
    """`start` starts every role; a test may end one of them and start it again. `module` is the command line."""

    module: str = "infra.cli"
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, *_arguments: str) -> None:
        """Start the roles that do not run, and wait until the edge is ready."""
        for role in ROLES:
            self.start_role(role)
        self.wait_ready()

    def start_role(self, role: str, name: str = "", environ: Mapping[str, str] | None = None) -> None:
        """Start one process; `name` tells a second one of the same role from the first."""
        name = name or role
        if (there := self.running.get(name)) is not None and there.poll() is None:
            return
        command = [sys.executable, "-m", self.module, "up", role]
        with (self.home.parent / f"{self.home.name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                command, env=self.environ | dict(environ or {}), stdout=log, stderr=log, start_new_session=True
            )
        if role == "http":
            self.process = self.running[name]

    def stop_role(self, name: str, how: signal.Signals = signal.SIGINT) -> int:
        """End one process, as Ctrl-C does or otherwise; return its exit status."""
        process = self.running.pop(name)
        if process.poll() is None:
            process.send_signal(how)
        return process.wait(STOP_SECONDS)

    def stop(self) -> int:
        """Stop all; return 0 when each of them stopped as asked."""
        return max(map(abs, self.statuses().values()), default=0)

    def statuses(self) -> dict[str, int]:
        """Stop all as Ctrl-C does; return how each of them ended."""
        for process in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        self.process = None
        # A second signal would cut off what the first one asked to end well.
        ended = {name: process.wait(STOP_SECONDS) for name, process in self.running.items()}
        self.running.clear()
        return ended

    def family(self) -> list[psutil.Process]:
        """The processes of all roles."""
        return [psutil.Process(process.pid) for process in self.running.values() if process.poll() is None]

    def kill_everything(self) -> None:
        """Kill -9 every role at once; the database and the brokers stay."""
        for name in list(self.running):
            self.running[name].kill()
        for name in list(self.running):
            self.stop_role(name)
        self.process = None


@contextmanager
def roles(home: Path, cluster: Cluster, dsn: str, **extra: str) -> Iterator[Roles]:
    """Started roles that are stopped at the end, whatever the test did to them."""
    made = Roles(home, extra=settings(cluster, dsn) | extra)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@contextmanager
def apart(kafka: KafkaSource, server: str, home: Path) -> Iterator[Roles]:
    """Started roles with topics and a database of their own."""
    skip_unless_real(kafka)
    with fresh_database(server) as dsn, roles(home, kafka.cluster(), dsn) as made:
        yield made


@contextmanager
def fresh_database(server: str) -> Iterator[str]:
    """A database of an instance's own on a server; dropped at the end."""
    name = f"roles_{uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    try:
        yield urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
