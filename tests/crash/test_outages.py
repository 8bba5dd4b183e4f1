"""A database that dies, that goes away for long, and that runs out of disk, while signed writers go on.

Whatever happens: a caller hears 200, or 503 with `Retry-After`, or 507; what was acknowledged stands afterwards where
the acknowledgement says, each command's facts once; and the views equal a clean rebuild.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import psycopg
import pytest

from infra.keys import KeyDirectory
from infra.postgres.embedded import EmbeddedPostgres
from services.kernel.acks import Ack
from services.registry.genesis import sha256
from tests.caller import Caller, ack_of
from tests.instance import Instance

WRITERS = 6
PAYEES = ("aurora", "basalt", "cedar")
AWAY_SECONDS = 30
SMALL_DISK_MIB = 224
HEARD = {200, 503, 507}


@dataclass
class Answered:
    """What one attempt heard: status, `Retry-After` if any, and how long it took."""

    status: int
    retry_after: str | None
    seconds: float


@dataclass
class Writer:
    """Pays one unit at a time; asks again, under the same name, until each payment is acknowledged."""

    instance: Instance
    genesis: str
    name: str
    number: int
    stop: threading.Event
    answers: list[Answered] = field(default_factory=list)
    acknowledged: dict[str, Ack] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    lost: int = 0
    failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._pay()
        except BaseException as error:  # noqa: BLE001 - told to the test by `load`
            self.failure = error

    def _pay(self) -> None:
        acks = KeyDirectory(self.instance.home).signing("acknowledgements")
        payer, payee = self.instance.key("lab"), self.instance.key(PAYEES[self.number % len(PAYEES)])
        caller = Caller(self.instance.url, payer, self.genesis, timeout_seconds=40)
        body = {"postings": [{"debit": payer.member, "credit": payee.member, "amount": "1"}], "memo": "x" * 200}
        while not self.stop.is_set():
            step = f"{self.name}/{self.number}/{len(self.asked)}"
            self.asked.append(step)
            while not self.stop.is_set():
                began = time.monotonic()
                try:
                    response = caller.authorized("PostTransaction", "/v1/treasury/transactions", body, step)
                except httpx.TransportError:
                    self.lost += 1
                    time.sleep(0.2)
                    continue
                retry = response.headers.get("retry-after")
                self.answers.append(Answered(response.status_code, retry, time.monotonic() - began))
                ack = ack_of(response, acks)
                if response.status_code == 200:
                    self.acknowledged[step] = ack
                    break
                time.sleep(0.3)
            time.sleep(0.01)
        caller.close()


@contextmanager
def load(instance: Instance, genesis: str, name: str) -> Iterator[list[Writer]]:
    """Let writers write while the context lasts; nothing they heard was anything but a proper answer."""
    stop = threading.Event()
    writers = [Writer(instance, genesis, name, number, stop) for number in range(WRITERS)]
    threads = [threading.Thread(target=writer.run) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        yield writers
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    for writer in writers:
        if writer.failure is not None:
            raise writer.failure
    assert not any(writer.lost for writer in writers), "the edge answers whatever the database does"
    answers = [answer for writer in writers for answer in writer.answers]
    assert {answer.status for answer in answers} <= HEARD
    assert all(answer.retry_after for answer in answers if answer.status == 503)


def found(instance: Instance) -> str:
    """Found the demo community and wait until its members have accounts; return its genesis hash."""
    genesis = sha256(instance.found())
    account = f"{instance.url}/v1/views/balances/{instance.key('lab').member}"
    until(lambda: httpx.get(account, trust_env=False).status_code == 200)
    return genesis


def done(writers: Sequence[Writer]) -> int:
    return sum(len(writer.acknowledged) for writer in writers)


def goes_on(writers: Sequence[Writer], payments: int = 30, seconds: float = 30.0) -> float:
    """Wait until so many more payments are acknowledged; return how long that took."""
    began, target = time.monotonic(), done(writers) + payments
    until(lambda: done(writers) >= target, seconds)
    return time.monotonic() - began


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def heard(writers: Sequence[Writer], status: int) -> int:
    return sum(1 for writer in writers for answer in list(writer.answers) if answer.status == status)


def check(instance: Instance, dsn: str, writers: Sequence[Writer]) -> None:
    """Compare what was acknowledged with what stands in the store, and the views with a clean rebuild."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "SELECT notification_id, state FROM treasury.events ORDER BY notification_id"
        ).fetchall()
    records = {int(position): bytes(state) for position, state in rows}
    assert list(records) == list(range(1, len(records) + 1)), "positions are dense"
    envelopes = {position: json.loads(state) for position, state in records.items()}
    assert len({envelope["id"] for envelope in envelopes.values()}) == len(envelopes), "ids are unique"
    lab = instance.key("lab").member
    paid = Counter(each["commandid"] for each in envelopes.values() if each.get("actor") == lab)
    assert set(paid.values()) <= {1}, "no payment was made twice"
    asked = {step for writer in writers for step in writer.asked}
    assert {step for step in paid if step.startswith(f"{writers[0].name}/")} <= asked
    for writer in writers:
        for step, ack in writer.acknowledged.items():
            assert ack.position is not None
            record = records[int(ack.position)]
            assert hashlib.sha256(record).hexdigest() == ack.record_hash
            assert envelopes[int(ack.position)]["commandid"] == step
    until(lambda: not any(follower["head"] - follower["position"] for follower in lag(instance)))
    assert all(view["equal"] for view in instance.json("rebuild")["views"])
    assert instance.json("doctor")["sound"]


def a_long_absence(folder: Path) -> None:
    """The database is another's (COMMONS_DATABASE): nobody here can start it again, so all that is left is to wait."""
    server = EmbeddedPostgres(folder / "database")
    instance = Instance(folder / "home", extra={"COMMONS_DATABASE": server.start()})
    try:
        instance.start()
        genesis = found(instance)
        with load(instance, genesis, "away") as writers:
            goes_on(writers)
            server.stop()
            away = time.monotonic()
            time.sleep(AWAY_SECONDS)
            assert heard(writers, 503) > 0
            assert httpx.get(f"{instance.url}/health/live", trust_env=False).status_code == 200
            assert httpx.get(f"{instance.url}/health/ready", trust_env=False).status_code == 503
            assert httpx.get(f"{instance.url}/v1/views/balances", trust_env=False).status_code == 503
            assert time.monotonic() - away >= AWAY_SECONDS
            server.start()
            goes_on(writers)
        assert not heard(writers, 507)
        check(instance, server.dsn, writers)
        assert "the database is away" in instance.log()
        assert instance.stop() == 0
    finally:
        if instance.process is not None:
            instance.stop()
        server.stop()


@pytest.fixture(scope="module", autouse=True)
def absence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[None]]:
    """The half minute costs nothing but time, so it passes while the other tests of this file run."""
    with ThreadPoolExecutor(1) as threads:
        yield threads.submit(a_long_absence, tmp_path_factory.mktemp("away"))


def lag(instance: Instance) -> list[dict[str, int]]:
    followers: list[dict[str, int]] = instance.json("lag")["followers"]
    return followers


@pytest.fixture(scope="module")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """A disk of its own, small enough to be filled; None where nothing may be mounted."""
    path = tmp_path_factory.mktemp("small-disk")
    mount = shutil.which("mount")
    command = [mount or "mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MIB}m", "tmpfs", str(path)]
    if mount is None or os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@dataclass
class Running:
    """A founded instance on its embedded database."""

    instance: Instance
    genesis: str

    @property
    def dsn(self) -> str:
        return (self.instance.home / "run" / "database").read_text()

    def postmaster(self) -> psutil.Process:
        pid = (self.instance.home / "postgres" / "data" / "postmaster.pid").read_text().split()[0]
        return psutil.Process(int(pid))


@pytest.fixture(scope="module")
def running(small_disk: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    instance = Instance((small_disk or tmp_path_factory.mktemp("outages")) / "home")
    instance.start()
    try:
        yield Running(instance, found(instance))
    finally:
        if instance.process is not None:
            instance.stop()


def test_a_database_that_is_killed_under_load_comes_back_with_everything(running: Running) -> None:
    with load(running.instance, running.genesis, "killed") as writers:
        for _ in range(3):
            goes_on(writers)
            running.postmaster().send_signal(signal.SIGKILL)
        goes_on(writers)
    assert not heard(writers, 507)
    check(running.instance, running.dsn, writers)
    assert "the database server ended" in running.instance.log()


def test_a_full_disk_loses_nothing_and_goes_on_once_there_is_space(running: Running, small_disk: Path | None) -> None:
    if small_disk is None:
        pytest.skip("filling a disk takes one of its own: mounting a tmpfs is not allowed here")
    filling = small_disk / "filling"
    # The log lies on the same disk: what cannot be told there must not stop the work either.
    with load(running.instance, running.genesis, "full") as writers:
        goes_on(writers)
        fill(filling)
        until(lambda: heard(writers, 503) + heard(writers, 507) >= 2 * WRITERS)
        acknowledged = done(writers)
        running.postmaster().send_signal(signal.SIGKILL)
        time.sleep(6)
        assert done(writers) - acknowledged < 10, "it goes on as if the disk were not full"
        filling.unlink()
        goes_on(writers, seconds=60)
    check(running.instance, running.dsn, writers)


def test_a_database_away_for_30_seconds_loses_nothing(absence: Future[None]) -> None:
    absence.result()


def fill(path: Path) -> None:
    """Write until no space is left."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4_096):
            with suppress(OSError):
                while True:
                    file.write(b"\0" * size)
