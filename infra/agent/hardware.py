"""What this machine brings when it registers: its processors, memory, and devices under hashed names."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from infra.agent.gpus import Gpu, Gpus, device_id

CPUINFO: Final = Path("/proc/cpuinfo")
MACHINE_ID: Final = Path("/etc/machine-id")


@dataclass(frozen=True, slots=True)
class Hardware:
    """A machine as it registers. `cpu_device` is the id under which its processors are metered.

    `disk_device` and `line_device` are those of the storage and bandwidth that its owner states, if any.
    """

    cpu_device: str
    cpu_model: str
    cpu_milli: int
    memory_mib: int
    gpus: tuple[Gpu, ...]
    disk_device: str = ""
    line_device: str = ""

    def devices(self, storage_bytes: int = 0, bits_per_second: int = 0) -> list[dict[str, Any]]:
        """Return the devices as `RegisterNode` takes them: the processors as one, each GPU, and what is stated."""
        cpu = {"device": self.cpu_device, "kind": "cpu", "model": self.cpu_model, "capacity": self.cpu_milli}
        gpus = [
            {"device": gpu.device, "kind": "gpu", "model": gpu.model, "capacity": 1_000, "memory_mib": gpu.memory_mib}
            for gpu in self.gpus
        ]
        disk = {"device": self.disk_device, "kind": "storage", "model": "disk", "capacity": storage_bytes}
        line = {"device": self.line_device, "kind": "bandwidth", "model": "line", "capacity": bits_per_second}
        stated = [device for device in (disk, line) if device["capacity"]]
        # A wallet signs devices as structs of one type, so all of them set the same fields.
        return [cpu | {"memory_mib": self.memory_mib}, *gpus, *(device | {"memory_mib": 0} for device in stated)]


def look(gpus: Gpus, secret: bytes) -> Hardware:
    """Return this machine; `secret` keys the hashes of what would tell which one it is."""
    return Hardware(
        device_id(secret, f"cpu/{_machine()}"),
        _processor(),
        (psutil.cpu_count() or 1) * 1_000,
        psutil.virtual_memory().total // 2**20,
        tuple(gpus.found()),
        device_id(secret, f"storage/{_machine()}"),
        device_id(secret, f"bandwidth/{_machine()}"),
    )


def _machine() -> str:
    try:
        return MACHINE_ID.read_text().strip()
    except OSError:
        return platform.node()


def _processor() -> str:
    try:
        lines = CPUINFO.read_text().splitlines()
    except OSError:
        lines = []
    name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    plain = "".join(letter for letter in name if letter.isascii() and letter.isprintable())
    return plain[:60].strip() or platform.machine() or "unknown"
