"""What a node must have to register (METERING "What can be pooled"). The numbers come from the genesis document."""

from __future__ import annotations

from typing import Final

from events.genesis import Minimums, Resources
from events.registry import Window
from events.registry_terms import DeviceKind
from services.kernel.errors import InvalidField
from services.registry.commands import RegisterNode
from services.registry.errors import BelowMinimum, NothingPayable

_HOURS: Final = 24


def window_hours(window: Window) -> int:
    """Return the hours per day of a stated window; raises InvalidField for one that is empty or off the clock."""
    start, end = window.from_hour, window.to_hour
    if not 0 <= start < _HOURS or not 0 < end <= _HOURS or start == end:
        raise InvalidField("a window is from_hour 0..23 to another to_hour 1..24, UTC", field="window")
    return end - start if end > start else _HOURS - start + end


def meet_minimums(resources: Resources, command: RegisterNode) -> None:
    """Raise BelowMinimum or NothingPayable unless the node brings what the community pools, in the least amounts.

    The cores and memory of a node with GPUs only describe it; a node without lends exactly those.
    """
    stated = _stated(command)
    payable = stated & set(resources.offered)
    if not payable:
        raise NothingPayable(
            f"this community pools {', '.join(resources.offered)}; the node states none of it",
            offered=list(resources.offered),
            stated=sorted(stated),
        )
    minimums = resources.minimums
    if "gpu" in payable:
        _gpu(minimums, command)
    if "cpu" in payable:
        _least("cpu_milli", minimums.cpu_milli, command.cpu_milli)
        _least("memory_mib", minimums.memory_mib, command.memory_mib)
    if "storage" in payable:
        _least("storage_bytes", minimums.storage_bytes, command.storage_bytes)
    if "bandwidth" in payable:
        _least("bandwidth_bits_per_second", minimums.bandwidth_bits_per_second, command.bandwidth_bits_per_second)


def meet_gpu_hours(minimums: Minimums, window: Window) -> None:
    """Raise BelowMinimum unless a window suits a node with GPUs."""
    _least("gpu_hours_per_day", minimums.gpu_hours_per_day, window_hours(window))


def _gpu(minimums: Minimums, command: RegisterNode) -> None:
    meet_gpu_hours(minimums, command.window)
    for device in command.devices:
        if device.kind == "gpu":
            _least("gpu_memory_mib", minimums.gpu_memory_mib, device.memory_mib)


def _stated(command: RegisterNode) -> set[DeviceKind]:
    kinds: set[DeviceKind] = {device.kind for device in command.devices}
    if "gpu" not in kinds and command.cpu_milli > 0:
        kinds.add("cpu")
    if command.storage_bytes > 0:
        kinds.add("storage")
    if command.bandwidth_bits_per_second > 0:
        kinds.add("bandwidth")
    return kinds


def _least(resource: str, minimum: int, stated: int) -> None:
    if stated < minimum:
        raise BelowMinimum(
            f"{resource} is {stated}, the community takes {minimum} and more",
            resource=resource,
            minimum=minimum,
            stated=stated,
        )
