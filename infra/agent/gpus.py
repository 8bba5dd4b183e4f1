"""GPUs through NVML, where there are any. `nvidia-ml-py` is the optional extra `gpu`; without it there are none."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from events.values import identifier


@dataclass(frozen=True, slots=True)
class Gpu:
    """A device as it is: its id (a keyed hash of its UUID), its model, and its memory in MiB."""

    device: str
    model: str
    memory_mib: int


@dataclass(frozen=True, slots=True)
class GpuSample:
    """A device at a moment: how busy (percent), memory in use (MiB), power (milliwatt; None where it tells none)."""

    device: str
    utilisation_percent: int
    memory_mib: int
    power_milliwatt: int | None


class Gpus(Protocol):
    """The GPUs of this machine."""

    def found(self) -> Sequence[Gpu]:
        """Return those that were there at the start."""
        ...

    def sample(self) -> Sequence[GpuSample]:
        """Return those that are there now; one that has gone, or does not answer, is missing."""
        ...

    def close(self) -> None:
        """Let go of the driver."""
        ...


class NoGpus:
    """A machine without GPUs."""

    def found(self) -> Sequence[Gpu]:
        """Return none."""
        return ()

    def sample(self) -> Sequence[GpuSample]:
        """Return none."""
        return ()

    def close(self) -> None:
        """Do nothing."""


class NvmlGpus:
    """The GPUs that NVIDIA's driver knows. `nvml` is the module `pynvml`, initialised."""

    def __init__(self, nvml: Any, secret: bytes) -> None:
        """Find the devices; `secret` keys the hash that hides their UUIDs."""
        self._nvml = nvml
        self._handles: dict[str, Any] = {}
        self._found: list[Gpu] = []
        for number in range(nvml.nvmlDeviceGetCount()):
            handle = nvml.nvmlDeviceGetHandleByIndex(number)
            device = device_id(secret, _text(nvml.nvmlDeviceGetUUID(handle)))
            memory = nvml.nvmlDeviceGetMemoryInfo(handle).total // 2**20
            self._handles[device] = handle
            self._found.append(Gpu(device, model_of(_text(nvml.nvmlDeviceGetName(handle))), memory))

    def found(self) -> Sequence[Gpu]:
        """Return those that were there at the start."""
        return self._found

    def sample(self) -> Sequence[GpuSample]:
        """Return those that answer now."""
        samples = []
        for device, handle in self._handles.items():
            with suppress(self._nvml.NVMLError):
                busy = self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu
                memory = self._nvml.nvmlDeviceGetMemoryInfo(handle).used // 2**20
                samples.append(GpuSample(device, busy, memory, self._power(handle)))
        return samples

    def close(self) -> None:
        """Let go of the driver."""
        with suppress(self._nvml.NVMLError):
            self._nvml.nvmlShutdown()

    def _power(self, handle: Any) -> int | None:
        try:
            return int(self._nvml.nvmlDeviceGetPowerUsage(handle))
        except self._nvml.NVMLError:
            return None


def open_gpus(secret: bytes) -> tuple[Gpus, str]:
    """Return the machine's GPUs, and in words how they were looked for."""
    try:
        nvml = importlib.import_module("pynvml")
    except ModuleNotFoundError:
        return NoGpus(), "none looked for: the extra `gpu` (nvidia-ml-py) is not installed"
    try:
        nvml.nvmlInit()
        gpus = NvmlGpus(nvml, secret)
    except nvml.NVMLError as error:
        return NoGpus(), f"none found by NVML: {error}"
    return gpus, f"{len(gpus.found())} found by NVML"


def device_id(secret: bytes, uuid: str) -> str:
    """Return `device/<32 hex>`: a keyed hash, so the log tells nobody which piece of hardware it is."""
    return f"device/{identifier('commons.device', secret, uuid)}"


def model_of(name: str) -> str:
    """Return a device's model as tables name it: `NVIDIA A100-SXM4-80GB` is `A100-SXM4-80GB`, `Tesla T4` is `T4`."""
    words = [word for word in name.split() if word not in {"NVIDIA", "Tesla"}]
    return "-".join(words) or "unknown"


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
