"""What a trace's nodes register with, and what their devices are measured at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from events.genesis import PerformanceTable
from events.registry_terms import PublicKey
from infra.openb.trace import TraceNode

MEMORY_MIB: Final = {"P100": 16_384, "T4": 16_384, "V100M16": 16_384, "V100M32": 32_768, "A10": 24_576, "A30": 24_576}
DEFAULT_MEMORY_MIB: Final = 16_384
"""What a model of which the trace tells no memory registers with (G2 and G3 are undisclosed)."""


def registration(node: TraceNode, key: PublicKey, devices: Sequence[str]) -> dict[str, Any]:
    """Return the body of `RegisterNode` for a node of the trace, which tells neither its country nor its owner."""
    memory = MEMORY_MIB.get(node.model, DEFAULT_MEMORY_MIB)
    return {
        "key": msgspec.to_builtins(key),
        "zone": "XX",
        "devices": [
            {"device": device, "kind": "gpu", "model": node.model, "capacity": 1_000, "memory_mib": memory}
            for device in devices
        ],
        "cpu_milli": node.cpu_milli,
        "memory_mib": node.memory_mib,
        "security_baseline": 1,
        "no_sensitive_data": True,
        "label": node.name,
    }


def throughput(table: PerformanceTable, model: str, reference: str) -> str:
    """Return the throughput at which a model measures exactly its table entry (6 decimals)."""
    factor = next(entry.performance_factor for entry in table.entries if entry.model == model)
    one, two = _scaled(factor, 4), _scaled(reference, 6)
    whole, part = divmod(-(-one * two // 10_000), 1_000_000)
    return f"{whole}.{part:06d}"


def _scaled(text: str, decimals: int) -> int:
    whole, _, part = text.partition(".")
    return int(whole + part.ljust(decimals, "0"))
