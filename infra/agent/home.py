"""The agent's home: its key, who it is, its spool, and a lock, so that one agent at a time writes there.

agent home (0700)
├── keys/      node.key (signs), devices.key (hides hardware ids)
├── node.json  which node it is, in which community
├── spool/     readings, one file per UTC hour; receipts/ of heartbeats; samples/ of how busy the machine was
├── stored/    what storage leases keep, each file under its root, its hashes beside it
├── cursor.json  what the server has acknowledged; leases.json what is to be metered; mark.json how far the clock came
├── log/       what the agent said, JSON lines in files of a limited size
└── status.json  what `commons agent status` shows
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from infra.agent.disk import write_whole
from infra.keys import KeyDirectory, SigningKey


class AgentRefused(Exception):
    """The agent cannot do this here; the message says why and what to do."""


class Identity(msgspec.Struct, frozen=True):
    """Who this agent is: its node, the community (hash of its genesis), its owner, the device of its processors."""

    node: str
    genesis: str
    owner: str
    public_url: str
    cpu_device: str
    cpu_milli: int
    gpus: tuple[str, ...]


class Mark(msgspec.Struct, frozen=True):
    """The last moment this agent was there, since when it can say that the machine was up, and its open hours' heads.

    `heads` are `[hour, lines, sha256]`: what was spooled until then must still be there. `down` is the meter's.
    """

    at_ms: int
    up_since_ms: int
    heads: tuple[tuple[int, int, str], ...] = ()
    down: dict[str, int] = msgspec.field(default_factory=dict)


class AgentHome:
    """Paths, key and lock of one agent."""

    def __init__(self, path: Path) -> None:
        """Use the folder, made 0700 where it is missing."""
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = path
        self._keys = KeyDirectory(path)

    @property
    def key(self) -> SigningKey:
        """The node's key, made at the first need. Raises KeyFileRefused."""
        return self._keys.signing("node")

    @property
    def device_secret(self) -> bytes:
        """What keys the hashes of hardware ids."""
        return self._keys.secret("devices")

    def identity(self) -> Identity:
        """Return who this agent is. Raises AgentRefused before it is registered."""
        path = self.path / "node.json"
        if not path.exists():
            raise AgentRefused("this machine is not registered yet: `commons agent register --owner-key FILE`")
        return msgspec.json.decode(path.read_bytes(), type=Identity)

    def keep_identity(self, identity: Identity) -> None:
        """Write down who this agent is."""
        write_whole(self.path / "node.json", msgspec.json.encode(identity))

    def mark(self) -> Mark | None:
        """Return the last mark; None at the first start, or where a crash left none that can be read."""
        try:
            return msgspec.json.decode((self.path / "mark.json").read_bytes(), type=Mark)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def keep_mark(self, mark: Mark) -> None:
        """Write the mark; it needs no fsync, because only a reboot loses it, and that ends what it says anyway."""
        write_whole(self.path / "mark.json", msgspec.json.encode(mark), durable=False)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the home. Raises AgentRefused when another agent does."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise AgentRefused(f"another agent runs in {self.path}") from None
            yield
        finally:
            os.close(descriptor)

    def running(self) -> bool:
        """Tell whether an agent holds the home."""
        try:
            with self.locked():
                return False
        except AgentRefused:
            return True
