"""How busy this machine is: processors, memory, disk, network (psutil) and GPUs. Shown, never paid (METERING)."""

from __future__ import annotations

from pathlib import Path

import msgspec
import psutil

from infra.agent.disk import append
from infra.agent.energy import Energy
from infra.agent.gpus import Gpus, GpuSample
from infra.agent.link import Clock

KEPT_DAYS = 7
DAY_MS = 86_400_000


class Sample(msgspec.Struct, frozen=True):
    """The machine at a moment. Bytes of disk and network are since boot; `energy_microjoules` since the agent began."""

    at_ms: int
    cpu_milli: int
    memory_mib: int
    disk_used_mib: int
    disk_read_bytes: int
    disk_written_bytes: int
    network_sent_bytes: int
    network_received_bytes: int
    energy_source: str
    energy_microjoules: int
    gpus: tuple[GpuSample, ...]


class Sampler:
    """Takes samples and keeps one a minute, for a week, beside the spool."""

    def __init__(self, folder: Path, gpus: Gpus, energy: Energy, clock: Clock) -> None:
        """Use the folder, made where it is missing."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._gpus = gpus
        self._energy = energy
        self._clock = clock
        self._kept_minute = 0
        psutil.cpu_percent()  # the first call only starts the measurement

    def take(self) -> Sample:
        """Return the machine as it is; `cpu_milli` is the mean since the last call."""
        gpus = tuple(self._gpus.sample())
        self._energy.add(gpus, self._clock.monotonic_ms())
        memory, network, disk = psutil.virtual_memory(), psutil.net_io_counters(), psutil.disk_io_counters()
        return Sample(
            self._clock.now_ms(),
            round(psutil.cpu_percent() * (psutil.cpu_count() or 1) * 10),
            (memory.total - memory.available) // 2**20,
            psutil.disk_usage(str(self._folder)).used // 2**20,
            disk.read_bytes if disk else 0,
            disk.write_bytes if disk else 0,
            network.bytes_sent if network else 0,
            network.bytes_recv if network else 0,
            self._energy.source,
            self._energy.microjoules,
            gpus,
        )

    def keep(self, sample: Sample) -> None:
        """Keep one sample a minute. Raises OSError."""
        minute, day = sample.at_ms // 60_000, sample.at_ms // DAY_MS
        if minute == self._kept_minute:
            return
        append(self._folder / f"{day}.jsonl", msgspec.json.encode(sample) + b"\n")
        self._kept_minute = minute
        for path in self._folder.glob("*.jsonl"):
            if int(path.stem) < day - KEPT_DAYS:
                path.unlink(missing_ok=True)
