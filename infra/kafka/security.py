"""How clients prove who they are to brokers, and know them: TLS, a name and a password, both, or neither."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Security:
    """`protocol` and `mechanism` as the settings name them; `ca_file`: trusted certificates (PEM), or the system's."""

    protocol: str = "plaintext"
    ca_file: Path | None = None
    mechanism: str = "SCRAM-SHA-512"
    user: str = ""
    password: str = field(default="", repr=False)

    @property
    def client(self) -> dict[str, Any]:
        """Return the arguments of the client library; nothing where nothing is secured.

        A broker's name is always compared with its certificate. Raises OSError for a file that cannot be read.
        """
        found: dict[str, Any] = {}
        if self.protocol != "plaintext":
            found["security_protocol"] = self.protocol.upper()
        if self.protocol.endswith("ssl"):
            found["ssl_context"] = ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        if self.protocol.startswith("sasl"):
            found["sasl_mechanism"] = self.mechanism
            found["sasl_plain_username"] = self.user
            found["sasl_plain_password"] = self.password
        return found


PLAIN: Final = Security()
"""Addresses in the clear, and nobody asks who one is."""
