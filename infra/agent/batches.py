"""Makes the payloads of signed batches out of spool lines: the same lines and number always give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from infra.agent.energy import EnergyReading
from infra.agent.spool import Reading

LINES: Final = 450
"""Readings in one batch: even with a lease of its own each, they stay under 40 KiB."""

ENERGY: Final = 100
"""Energy readings that travel with one batch, if it has few readings of its own."""


def payload(node: str, number: int, readings: Sequence[Reading], energy: Sequence[EnergyReading] = ()) -> bytes:
    """Return the payload of a batch in time: tables in order of first use, readings pointing into them."""
    return msgspec.json.encode(_tables(node, number, readings) | ({"energy": energy} if energy else {}))


def late_payload(
    node: str, number: int, readings: Sequence[Reading], hour: int, sha256: str, part: int, parts: int
) -> bytes:
    """Return the payload of one part of a late hour, which brings the whole spool of it."""
    named = {"spool": sha256, "hour": hour, "part": part, "parts": parts}
    return msgspec.json.encode(_tables(node, number, readings) | named)


def _tables(node: str, number: int, readings: Sequence[Reading]) -> dict[str, Any]:
    devices = {name: place for place, name in enumerate(dict.fromkeys(reading[0] for reading in readings))}
    leases = {name: place for place, name in enumerate(dict.fromkeys(reading[1] for reading in readings))}
    return {
        "node": node,
        "number": number,
        "devices": list(devices),
        "leases": list(leases),
        "readings": [(devices[device], leases[lease], *rest) for device, lease, *rest in readings],
    }
