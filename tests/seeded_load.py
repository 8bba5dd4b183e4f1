"""Signed commands over HTTP, the same for one seed: payments, members and nodes; each asked until acknowledged."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.keys import KeyDirectory
from services.kernel.acks import Ack
from services.kernel.jws import public_key, raw_public
from tests.caller import Caller, ack_of
from tests.instance import Instance
from tests.registry_world import gpu

WRITERS = ("lab", "lab", "steward", "aurora")
PAYEES = ("aurora", "basalt", "cedar")
PAUSE_SECONDS = 0.04
HEARD = {200, 503, 507}
Asked = tuple[str, str, dict[str, Any]]


@dataclass
class Writer:
    """One caller of the load; what it was told is in `acknowledged`: service, command id and acknowledgement."""

    instance: Instance
    genesis: str
    who: str
    name: str
    dice: random.Random
    stop: threading.Event
    asked: int = 0
    acknowledged: list[tuple[str, str, Ack]] = field(default_factory=list)
    failure: BaseException | None = None

    def run(self) -> None:
        caller = Caller(self.instance.url, self.instance.key(self.who), self.genesis, timeout_seconds=40)
        try:
            while not self.stop.is_set():
                self._ask(caller, *self._next())
                time.sleep(PAUSE_SECONDS * (1 if self.who == "lab" else 4))
        except BaseException as error:  # noqa: BLE001 - told to the test by `load`
            self.failure = error
        finally:
            caller.close()

    def _next(self) -> Asked:
        """What is asked next, drawn from the seed."""
        self.asked += 1
        fresh = public_key(raw_public(private(f"{self.name}/{self.asked}")))
        key = {"kid": fresh.kid, "x": fresh.x}
        if self.who == "steward":
            body: dict[str, Any] = {"handle": f"{self.name}-{self.asked}", "kind": "human", "key": key}
            return "RegisterMember", "/v1/registry/members/register", body
        if self.who == "aurora":
            device = msgspec.to_builtins(gpu(f"{self.name}/{self.asked}"))
            offer = {"zone": "FR", "cpu_milli": 8_000, "memory_mib": 16_384, "security_baseline": 1}
            offer |= {"no_sensitive_data": True}
            return "RegisterNode", "/v1/registry/nodes/register", offer | {"key": key, "devices": [device]}
        payer, payee = self.instance.key(self.who), self.instance.key(self.dice.choice(PAYEES))
        posting = {"debit": payer.member, "credit": payee.member, "amount": str(self.dice.randint(1, 5))}
        return "PostTransaction", "/v1/treasury/transactions", {"postings": [posting], "memo": "x" * 100}

    def _ask(self, caller: Caller, command: str, path: str, body: Mapping[str, Any]) -> None:
        step = f"{self.name}/{self.asked}"
        acks = KeyDirectory(self.instance.home).signing("acknowledgements")
        while not self.stop.is_set():
            try:
                response = caller.authorized(command, path, body, step)
            except httpx.TransportError:
                time.sleep(0.2)  # the edge was killed
                continue
            assert response.status_code in HEARD, response.text
            if response.status_code == 200:
                self.acknowledged.append((path.split("/")[2], step, ack_of(response, acks)))
                return
            time.sleep(0.2)


def private(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


@contextmanager
def load(instance: Instance, genesis: str, seed: str) -> Iterator[list[Writer]]:
    """Let callers ask while the context lasts; nothing they heard was anything but a proper answer."""
    stop = threading.Event()
    writers = [
        Writer(instance, genesis, who, f"{seed}-{number}", random.Random(f"{seed}/{number}"), stop)
        for number, who in enumerate(WRITERS)
    ]
    threads = [threading.Thread(target=writer.run) for writer in writers]
    for thread in threads:
        thread.start()
    try:
        yield writers
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    tell(writers)


def tell(writers: list[Writer]) -> None:
    """Raise what made a writer stop."""
    for writer in writers:
        if writer.failure is not None:
            raise writer.failure


def done(writers: list[Writer]) -> int:
    """How many commands were acknowledged."""
    return sum(len(writer.acknowledged) for writer in writers)


def goes_on(writers: list[Writer], commands: int = 10, seconds: float = 60.0) -> None:
    """Wait until so many more commands are acknowledged."""
    target, deadline = done(writers) + commands, time.monotonic() + seconds
    while done(writers) < target:
        tell(writers)
        assert time.monotonic() < deadline, f"{target - done(writers)} of {commands} commands are not acknowledged"
        time.sleep(0.05)
