"""Native Kafka brokers in KRaft mode, for tests and for trying things on one machine: no container, no ZooKeeper.

Every broker is a controller as well, so that any number of them is one quorum. Data and logs lie in one private folder
each; a broker that was stopped or killed comes back on the same data and ports.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError  # type: ignore[import-untyped]

from infra.kafka.classpath import class_path

START_SECONDS: Final = 90.0
STOP_SECONDS: Final = 30.0
_POLL_SECONDS: Final = 0.2
_JAVA: Final = ("java", "-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-Dlog4j2.level=WARN")

_SETTINGS: Final = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",  # a consumer alone in its group begins at once
    "group.min.session.timeout.ms": "1000",
    "offsets.topic.num.partitions": "5",
    "transaction.state.log.num.partitions": "5",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "controlled.shutdown.enable": "true",
    "unclean.leader.election.enable": "false",
    "broker.session.timeout.ms": "6000",  # a killed broker is noticed after this
    "broker.heartbeat.interval.ms": "1000",
}


class BrokerFailed(Exception):
    """A broker ended or did not become ready; the message ends with the last lines of its log."""


class NativeKafka:
    """A cluster of brokers on the loopback; its methods block."""

    def __init__(self, folder: Path, brokers: int = 1) -> None:
        """Keep everything under `folder`. Raises NoNativeKafka."""
        self._folder = folder
        self._class_path = class_path()
        ports = free_ports(2 * brokers)
        self._ports = dict(enumerate(zip(ports[:brokers], ports[brokers:], strict=True), start=1))
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def bootstrap(self) -> str:
        """The addresses of all brokers, as clients take them."""
        return ",".join(f"127.0.0.1:{port}" for port, _ in self._ports.values())

    @property
    def numbers(self) -> list[int]:
        """The brokers' numbers, from 1 on."""
        return list(self._ports)

    def start(self) -> str:
        """Start every broker that does not run; return the addresses once all of them answer. Raises BrokerFailed."""
        for number in self._ports:
            self.launch(number)
        self.wait_ready(len(self._ports))
        return self.bootstrap

    def launch(self, number: int) -> None:
        """Start one broker unless it runs, on the data it left behind; it is not ready yet."""
        if self.pid(number) is not None:
            return
        folder = self._folder / f"broker-{number}"
        settings = folder / "server.properties"
        if not settings.exists():
            self._format(number, folder, settings)
        with (folder / "server.log").open("ab") as log:
            command = [*_JAVA, "-cp", self._class_path, "kafka.Kafka", str(settings)]
            self._processes[number] = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)  # noqa: S603

    def pid(self, number: int) -> int | None:
        """Return the process id of a broker that runs, None for one that does not."""
        process = self._processes.get(number)
        return process.pid if process is not None and process.poll() is None else None

    def kill(self, number: int) -> None:
        """Kill a broker with no warning (SIGKILL), and wait until it is gone."""
        self._end(number, signal.SIGKILL)

    def stop(self) -> None:
        """End all brokers, those that do not end in time by force."""
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.terminate()
        for number in self._processes:
            self._end(number, signal.SIGTERM)

    def wait_ready(self, brokers: int, seconds: float = START_SECONDS) -> None:
        """Return once the cluster's metadata names `brokers` live brokers. Raises BrokerFailed."""
        deadline = time.monotonic() + seconds
        while (found := _answered(self.bootstrap)) < brokers:
            for number, process in self._processes.items():
                if process.poll() not in {None, -signal.SIGKILL}:
                    raise BrokerFailed(f"broker {number} ended with {process.returncode}: {self._log(number)}")
            if time.monotonic() > deadline:
                raise BrokerFailed(f"{found} of {brokers} brokers answer after {seconds:.0f} s: {self._log(1)}")
            time.sleep(_POLL_SECONDS)

    def _end(self, number: int, how: signal.Signals) -> None:
        process = self._processes[number]
        with suppress(ProcessLookupError):
            process.send_signal(how)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _format(self, number: int, folder: Path, settings: Path) -> None:
        folder.mkdir(parents=True, mode=0o700)
        draft = folder / "draft.properties"
        draft.write_text("".join(f"{name}={value}\n" for name, value in self._properties(number, folder).items()))
        identity = base64.urlsafe_b64encode(hashlib.sha256(str(self._folder).encode()).digest()[:16]).decode()[:22]
        format_it = ("kafka.tools.StorageTool", "format", "--cluster-id", identity.replace("-", "A"), "--config")
        command = [*_JAVA, "-cp", self._class_path, *format_it, str(draft)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - java of the path
        if done.returncode:
            raise BrokerFailed(f"the storage of broker {number} cannot be formatted: {done.stderr or done.stdout}")
        draft.rename(settings)  # only a formatted folder has the file

    def _properties(self, number: int, folder: Path) -> dict[str, str]:
        port, controller = self._ports[number]
        replicas = str(min(len(self._ports), 3))
        return {
            **_SETTINGS,
            "node.id": str(number),
            "log.dirs": str(folder / "data"),
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
            "controller.quorum.voters": ",".join(f"{node}@127.0.0.1:{at}" for node, (_, at) in self._ports.items()),
            "offsets.topic.replication.factor": replicas,
            "transaction.state.log.replication.factor": replicas,
            "transaction.state.log.min.isr": "1",
        }

    def _log(self, number: int) -> str:
        path = self._folder / f"broker-{number}" / "server.log"
        return path.read_text(errors="replace")[-2_000:] if path.exists() else "it has no log"


def _answered(bootstrap: str) -> int:
    with ThreadPoolExecutor(1) as thread:  # the caller's own may be running an event loop
        return thread.submit(asyncio.run, live_brokers(bootstrap)).result()


async def live_brokers(bootstrap: str) -> int:
    """Return how many brokers the cluster's metadata names; 0 while nobody answers."""
    if not any([await _listens(address) for address in bootstrap.split(",")]):
        return 0  # the client would log every refused connection
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=3_000)
    try:
        await admin.start()
        return len((await admin.describe_cluster())["brokers"])
    except (KafkaError, OSError):
        return 0
    finally:
        await admin.close()


async def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        _, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return False
    writer.close()
    return True


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody listens on now."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()
