"""Everything that one start of the server is made of, and the start itself."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

from infra.postgres.binaries import Account
from infra.postgres.embedded_settings import DEFAULTS
from infra.postgres.place import ROLE, Place
from infra.postgres.processes import Postmaster, data_argument, handed_directory, launch, mark_of

DATABASE: Final = "commons"
_SOCKET_PORT: Final = 5432  # part of the socket's name; each server has a directory of its own


@dataclass(frozen=True, slots=True)
class Plan:
    """How a server is to be started."""

    place: Place
    account: Account
    binaries: Path
    socket_directory: Path
    settings: Mapping[str, str]
    tcp: bool

    def likeness(self) -> str:
        """Digest everything that a server is started with: one that was left behind is adopted if it is the same."""
        parts = [{**DEFAULTS, **self.settings}, self.tcp, str(self.binaries), str(self.socket_directory)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def fits(self, found: Postmaster, port: int | None) -> bool:
        """Whether a live server is as we would start it, and can be reached."""
        reachable = port is not None and (self.socket_directory / f".s.PGSQL.{port}").exists()
        return reachable and found.was_started_with(self.likeness())

    def free_port(self) -> int:
        """Choose the port: a free one of the loopback, or the constant in the name of a socket."""
        if not self.tcp:
            return _SOCKET_PORT
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    def dsn(self, port: int) -> str:
        """Address the server for asyncpg, psycopg and libpq; names the password file, does not hold the password."""
        query = {
            "host": "127.0.0.1" if self.tcp else str(self.socket_directory),
            "port": str(port),
            "passfile": str(self.place.password_file),
            "sslmode": "disable",
        }
        return f"postgresql://{ROLE}@/{DATABASE}?{urlencode(query, quote_via=quote, safe='/')}"

    def launch(self, port: int, output: int) -> Postmaster:
        """Start the server; it writes to the descriptor `output`, which is closed here."""
        data = self.place.data
        try:
            with handed_directory(self.socket_directory, self.account) as (socket_directory, descriptors):
                command: list[str | Path] = [
                    self.binaries / "postgres",
                    *("-D", data_argument(data, self.account)),
                    *("-k", socket_directory),
                    *("-p", str(port)),
                    *("-c", f"listen_addresses={'127.0.0.1' if self.tcp else ''}"),
                    *("-c", f"cluster_name={mark_of(data)}"),
                    *("-c", f"commons.likeness={self.likeness()}"),
                ]
                child = launch(command, data, self.account, output=output, descriptors=descriptors)
        finally:
            os.close(output)
        return Postmaster(child.pid, child)
