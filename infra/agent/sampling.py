"""How busy this machine is: processors, memory, disk, line (psutil) and GPUs. Shown, never paid (METERING)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec
import psutil

from infra.agent.disk import append
from infra.agent.energy import Energy
from infra.agent.gpus import Gpus, GpuSample
from infra.agent.line import Line, look_at_line
from infra.agent.link import Clock
from infra.agent.store import Store

KEPT_DAYS = 7
DAY_MS = 86_400_000


class Sample(msgspec.Struct, frozen=True):
    """The machine at a moment; `energy_microjoules` are since the agent began.

    `disk_used_mib` of `disk_total_mib` are of the disk that holds the agent's home, whoever uses them; `stored_bytes`
    of them are kept for leases. Bytes read and written are of all disks since boot. Bytes sent and received are since
    boot over the interfaces named in `line`, those with a default route that are up: none of them, and the line is
    down. What passed inside the machine is not in them. `line` is None in a sample of the release before.
    """

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
    disk_total_mib: int = 0
    stored_bytes: int = 0
    line: tuple[str, ...] | None = None


class Sampler:
    """Takes samples and keeps one a minute, for a week, beside the spool."""

    def __init__(
        self,
        folder: Path,
        gpus: Gpus,
        energy: Energy,
        clock: Clock,
        store: Store,
        line: Callable[[], Line] = look_at_line,
    ) -> None:
        """Use the folder, made where it is missing."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._store = store
        self._line = line
        self._gpus = gpus
        self._energy = energy
        self._clock = clock
        self._kept_minute = 0
        psutil.cpu_percent()  # the first call only starts the measurement

    def take(self) -> Sample:
        """Return the machine as it is; `cpu_milli` is the mean since the last call."""
        gpus = tuple(self._gpus.sample())
        self._energy.add(gpus, self._clock.monotonic_ms())
        memory, line, moved = psutil.virtual_memory(), self._line(), psutil.disk_io_counters()
        disk = psutil.disk_usage(str(self._folder))
        return Sample(
            self._clock.now_ms(),
            round(psutil.cpu_percent() * (psutil.cpu_count() or 1) * 10),
            (memory.total - memory.available) // 2**20,
            disk.used // 2**20,
            moved.read_bytes if moved else 0,
            moved.write_bytes if moved else 0,
            line.sent_bytes,
            line.received_bytes,
            self._energy.source,
            self._energy.microjoules,
            gpus,
            disk.total // 2**20,
            self._store.total(),
            line.interfaces,
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
