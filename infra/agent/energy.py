"""Energy of this machine, and where the figure comes from: it is always said, and without a source there is none.

RAPL counts the processor packages in microjoules (Linux, /sys/class/powercap); NVML tells a GPU's power, which times
the time between two samples is energy. Neither is a meter at the wall: what power supply, fans and disks take is not
in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from infra.agent.gpus import GpuSample

POWERCAP: Final = Path("/sys/class/powercap")
LONGEST_STEP_MS: Final = 120_000
"""Power between two samples further apart than this is not known; that time counts no energy."""

READING_MS: Final = 60_000
MICROJOULES_PER_MICRO_KWH: Final = 3_600_000

EnergyReading = tuple[int, int, int, str]
"""Start, end (milliseconds UTC), micro-kWh between them, and which meter read it."""


class Rapl:
    """The packages' energy counters, which wrap round at a published value."""

    def __init__(self, folder: Path = POWERCAP) -> None:
        """Find the packages that this process may read (as a rule root only)."""
        self._last: dict[Path, int] = {}
        for package in sorted(folder.glob("intel-rapl:*")) if folder.is_dir() else ():
            if package.name.count(":") == 1 and (counter := _number(package / "energy_uj")) is not None:
                self._last[package] = counter

    @property
    def readable(self) -> bool:
        """Tell whether there is anything to read."""
        return bool(self._last)

    def microjoules(self) -> dict[str, int]:
        """Return each package's energy since the last call, by the name of its meter."""
        used: dict[str, int] = {}
        for package, before in self._last.items():
            now = _number(package / "energy_uj")
            if now is None:
                continue
            wrapped = _number(package / "max_energy_range_uj") or 0
            used[f"rapl:{package.name.rpartition(':')[2]}"] = now - before if now >= before else now + wrapped - before
            self._last[package] = now
        return used


@dataclass
class Energy:
    """Adds up energy from what there is. `rapl` may be unreadable, samples may tell no power."""

    rapl: Rapl
    microjoules: int = 0
    gpu_power: bool = False
    _before: dict[str, tuple[int, int]] = field(default_factory=dict)
    _unread: dict[str, int] = field(default_factory=dict)
    _since_ms: int | None = None

    @property
    def source(self) -> str:
        """Where the figure comes from: `rapl`, `nvml-power`, `rapl+nvml-power` or `none`."""
        parts = [*(["rapl"] if self.rapl.readable else []), *(["nvml-power"] if self.gpu_power else [])]
        return "+".join(parts) or "none"

    def add(self, gpus: Sequence[GpuSample], monotonic_ms: int) -> None:
        """Count what was used since the last call."""
        for meter, used in self.rapl.microjoules().items():
            self._count(meter, used)
        for sample in gpus:
            if sample.power_milliwatt is None:
                continue
            self.gpu_power = True
            before = self._before.get(sample.device)
            self._before[sample.device] = (sample.power_milliwatt, monotonic_ms)
            if before is not None and monotonic_ms - before[1] <= LONGEST_STEP_MS:
                # The trapezoid between two samples; milliwatt x millisecond is microjoule.
                used = (before[0] + sample.power_milliwatt) * (monotonic_ms - before[1]) // 2
                self._count(f"nvml:{sample.device.rpartition('/')[2]}", used)

    def readings(self, now_ms: int) -> list[EnergyReading]:
        """Return what each meter read since the last call, once a minute or so is over; the rest is carried on."""
        since = self._since_ms
        if since is not None and 0 <= now_ms - since < READING_MS:
            return []
        self._since_ms = now_ms
        if since is None or not since < now_ms <= since + LONGEST_STEP_MS:
            return []  # the clock was set, or the machine slept: nobody knows when it was used
        found = []
        for meter, used in sorted(self._unread.items()):
            micro_kwh, self._unread[meter] = divmod(used, MICROJOULES_PER_MICRO_KWH)
            found.append((since, now_ms, micro_kwh, meter))
        return found

    def _count(self, meter: str, microjoules: int) -> None:
        self.microjoules += microjoules
        self._unread[meter] = self._unread.get(meter, 0) + microjoules


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
