"""A whole instance for tests: `commons up` in processes of its own, on a free port and a home of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from events.genesis import Community
from infra.demo.history import demo_community
from infra.keys import KeyDirectory, SigningKey, member_key
from infra.openb.flow import ensure_founded
from infra.openb.names import Names
from infra.platform import wall_clock_ms
from infra.settings import Settings, read_settings

READY_SECONDS = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Instance:
    """A home and a port; `start` and `stop` (or kill) its processes as often as a test likes."""

    home: Path
    port: int = field(default_factory=free_port)
    extra: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("COMMONS_")}
        return kept | {"COMMONS_HOME": str(self.home), "COMMONS_LISTEN": f"127.0.0.1:{self.port}"} | dict(self.extra)

    @property
    def settings(self) -> Settings:
        return read_settings(self.environ)

    @property
    def dsn(self) -> str:
        """The address of its database: the one it was given, or its own while it runs."""
        given = self.extra.get("COMMONS_DATABASE")
        return given or (self.home / "run" / "database").read_text()

    def key(self, handle: str) -> SigningKey:
        """The key of a founder of the demo community."""
        return member_key(KeyDirectory(self.home).secret("operator"), handle)

    def give_operator_key(self, seed: bytes) -> None:
        """Let this home's operator have that key, before anything is started."""
        folder = self.home / "keys"
        self.home.mkdir(mode=0o700)
        folder.mkdir(mode=0o700)
        (folder / "operator.key").touch(mode=0o600)
        (folder / "operator.key").write_text(seed.hex())

    def names(self, realm: str) -> Names:
        return Names(KeyDirectory(self.home).secret("operator"), realm)

    def start(self, *arguments: str) -> None:
        """Start `commons up` and wait until it is ready."""
        command = [sys.executable, "-m", "infra.cli", *(arguments or ("up",))]
        log = (self.home.parent / f"{self.home.name}.log").open("ab")
        self.process = subprocess.Popen(command, env=self.environ, stdout=log, stderr=log, start_new_session=True)
        log.close()
        self.wait_ready()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self.process is None or self.process.poll() is None, self.log()
            try:
                if httpx.get(f"{self.url}/health/ready", timeout=2, trust_env=False).status_code == 200:
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        raise TimeoutError(self.log())

    def log(self) -> str:
        path = self.home.parent / f"{self.home.name}.log"
        return path.read_text()[-4_000:] if path.exists() else ""

    def stop(self) -> int:
        """Stop as Ctrl-C does; return the exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        status = self.process.wait(60)
        self.process = None
        return status

    def family(self) -> list[psutil.Process]:
        """The supervisor, its children, and the database's processes."""
        assert self.process is not None
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def kill_everything(self) -> None:
        """Kill -9 every process at once, the database's too."""
        for process in self.family():
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        assert self.process is not None
        self.process.wait(30)
        self.process = None

    def commons(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run the command line against this home."""
        command = [sys.executable, "-m", "infra.cli", *arguments]
        return subprocess.run(command, env=self.environ, capture_output=True, text=True, timeout=timeout, check=False)

    def json(self, *arguments: str, timeout: float = 300) -> Any:
        """Run a command with --json; return what its last line holds."""
        done = self.commons(*arguments, "--json", timeout=timeout)
        assert done.returncode == 0, done.stderr + done.stdout[-4_000:]
        return json.loads(done.stdout.splitlines()[-1])

    def found(self, community: Community | None = None) -> Community:
        """Found the demo community, with its history's permission, on this running instance."""
        seed = KeyDirectory(self.home).secret("operator")
        document = community or demo_community(seed, self.names("sample"), wall_clock_ms())
        asyncio.run(ensure_founded(self.settings, document, lambda _line: None))
        return document


@contextmanager
def instance(home: Path, **extra: str) -> Iterator[Instance]:
    """A started instance that is stopped at the end, whatever the test did to it."""
    made = Instance(home, extra=extra)
    made.start()
    try:
        yield made
    finally:
        if made.process is not None:
            made.stop()
