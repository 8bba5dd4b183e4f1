"""What the agent reads off the machine: energy with its source, GPUs through NVML, itself as hardware."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infra.agent.energy import Energy, Rapl
from infra.agent.gpus import GpuSample, NoGpus, NvmlGpus, device_id, model_of, open_gpus
from infra.agent.hardware import look
from infra.agent.home import AgentHome, AgentRefused
from infra.agent.line import Line, default_routes, look_at_line
from infra.agent.registration import Terms, embodied_of, registration_body
from infra.agent.sampling import Sampler
from infra.agent.store import Store
from services.kernel.typed_commands import digest, typed_command
from services.registry.bodies import RegisterNodeBody
from tests.agent_given import DEVICE, HandClock, HandGpus

SECRET = bytes(32)


def package(folder: Path, name: str, microjoules: int) -> Path:
    made = folder / name
    made.mkdir(parents=True)
    (made / "energy_uj").write_text(f"{microjoules}\n")
    (made / "max_energy_range_uj").write_text("1000000\n")
    return made


def test_rapl_adds_packages_not_their_parts_and_survives_the_wrap(tmp_path: Path) -> None:
    first, second = package(tmp_path, "intel-rapl:0", 100), package(tmp_path, "intel-rapl:1", 999_000)
    package(tmp_path, "intel-rapl:0:0", 5)
    energy = Energy(Rapl(tmp_path))
    (first / "energy_uj").write_text("600")
    (second / "energy_uj").write_text("1000")
    energy.add((), 0)
    assert energy.microjoules == 500 + 2_000
    assert energy.source == "rapl"


def test_without_a_source_there_is_no_energy(tmp_path: Path) -> None:
    energy = Energy(Rapl(tmp_path / "none"))
    energy.add((GpuSample(DEVICE, 1, 1, None),), 0)
    energy.add((GpuSample(DEVICE, 1, 1, None),), 1_000)
    assert (energy.source, energy.microjoules) == ("none", 0)


def test_power_times_time_is_energy_but_not_over_a_gap(tmp_path: Path) -> None:
    energy = Energy(Rapl(tmp_path / "none"))
    for at, power in ((0, 200_000), (10_000, 300_000), (200_000, 300_000)):
        energy.add((GpuSample(DEVICE, 1, 1, power),), at)
    assert (energy.source, energy.microjoules) == ("nvml-power", 2_500_000_000)


def test_energy_becomes_readings_by_meter_a_minute_each_and_loses_no_rest(tmp_path: Path) -> None:
    energy = Energy(Rapl(tmp_path / "none"))
    found = []
    for second in range(0, 181, 5):
        energy.add((GpuSample(DEVICE, 1, 1, 100_000),), second * 1_000)
        found += energy.readings(1_000_000 + second * 1_000)
    assert [(start, end) for start, end, _, _ in found] == [
        (1_000_000 + minute * 60_000, 1_060_000 + minute * 60_000) for minute in range(3)
    ]
    assert {meter for *_, meter in found} == {"nvml:" + "d" * 32}
    # 100 W for 60 s are 6,000 J, 1,666.67 micro-kWh of 3.6 J each.
    assert [micro_kwh for _, _, micro_kwh, _ in found] == [1_666, 1_667, 1_667]


def test_energy_over_a_step_of_the_clock_is_of_no_known_time(tmp_path: Path) -> None:
    energy = Energy(Rapl(tmp_path / "none"))
    energy.readings(1_000_000)
    energy.add((GpuSample(DEVICE, 1, 1, 100_000),), 0)
    energy.add((GpuSample(DEVICE, 1, 1, 100_000),), 60_000)
    assert energy.readings(9_000_000) == []
    assert energy.readings(500_000) == []


class Failed(Exception):
    pass


def nvml(**more: Any) -> Any:
    """The module `pynvml` with one device, as far as it is used."""
    names = {
        "NVMLError": Failed,
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda number: number,
        "nvmlDeviceGetUUID": lambda _handle: "GPU-1234",
        "nvmlDeviceGetName": lambda _handle: b"NVIDIA L40S",
        "nvmlDeviceGetMemoryInfo": lambda _handle: SimpleNamespace(total=48 * 2**30, used=2**30),
        "nvmlDeviceGetUtilizationRates": lambda _handle: SimpleNamespace(gpu=42, memory=7),
        "nvmlDeviceGetPowerUsage": lambda _handle: 250_000,
    }
    return SimpleNamespace(**(names | more))


def failing(*_: Any) -> Any:
    raise Failed("gone")


def test_a_gpu_is_known_by_a_keyed_hash_and_its_model() -> None:
    gpus = NvmlGpus(nvml(), SECRET)
    (found,) = gpus.found()
    assert (found.device, found.model, found.memory_mib) == (device_id(SECRET, "GPU-1234"), "L40S", 49_152)
    assert "1234" not in found.device
    assert device_id(bytes(31) + b"\1", "GPU-1234") != found.device
    assert gpus.sample() == [GpuSample(found.device, 42, 1_024, 250_000)]


def test_a_gpu_that_answers_no_more_is_missing_and_one_without_a_meter_tells_no_power() -> None:
    assert NvmlGpus(nvml(nvmlDeviceGetUtilizationRates=failing), SECRET).sample() == []
    (sample,) = NvmlGpus(nvml(nvmlDeviceGetPowerUsage=failing), SECRET).sample()
    assert sample.power_milliwatt is None


def test_a_machine_without_driver_or_library_has_no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlInit=failing))
    assert open_gpus(SECRET)[1] == "none found by NVML: gone"
    monkeypatch.setitem(sys.modules, "pynvml", None)
    gpus, how = open_gpus(SECRET)
    assert (gpus.found(), gpus.sample()) == ((), ())
    assert "not installed" in how


def test_models_are_named_as_tables_name_them() -> None:
    assert [model_of(name) for name in ("Tesla T4", "NVIDIA A100-SXM4-80GB", "NVIDIA GeForce RTX 4090", "")] == [
        "T4",
        "A100-SXM4-80GB",
        "GeForce-RTX-4090",
        "unknown",
    ]


def test_this_machine_registers_with_its_processors_as_one_device() -> None:
    hardware = look(NoGpus(), SECRET)
    (cpu,) = hardware.devices()
    assert cpu["kind"] == "cpu"
    assert cpu["capacity"] == hardware.cpu_milli >= 1_000
    assert hardware.memory_mib > 0
    assert len(look(HandGpus(), SECRET).devices()) == 2


def test_storage_and_bandwidth_register_as_devices_where_their_owner_states_them(tmp_path: Path) -> None:
    home, hardware = AgentHome(tmp_path), look(NoGpus(), SECRET)
    assert not {"storage_bytes", "bandwidth_bits_per_second"} & registration_body(home, hardware, Terms("IS")).keys()
    body = registration_body(home, hardware, Terms("IS", storage_gb=200, bandwidth_mbit=50))
    _, disk, line = body["devices"]
    assert (disk["kind"], disk["capacity"], body["storage_bytes"]) == ("storage", 200 * 10**9, 200 * 10**9)
    assert (line["kind"], line["capacity"], body["bandwidth_bits_per_second"]) == ("bandwidth", 50 * 10**6, 50 * 10**6)
    assert len({device["device"] for device in body["devices"]}) == 3


def test_a_wallet_can_sign_whatever_body_is_printed_for_it(tmp_path: Path) -> None:
    embodied = embodied_of("1283", 4, "datasheet")
    terms = Terms("IS", storage_gb=200, bandwidth_mbit=50, pue_milli=1_200, embodied=embodied)
    body = registration_body(AgentHome(tmp_path), look(HandGpus(), SECRET), terms)
    domain = {"name": "x", "version": "1", "chainId": 1, "verifyingContract": f"0x{'0' * 40}", "salt": f"0x{'0' * 64}"}
    data = typed_command(domain, "RegisterNode", RegisterNodeBody, body, "nonce")
    assert len(digest(data)) == 32
    assert [device["kind"] for device in data["message"]["devices"]] == ["cpu", "gpu", "storage", "bandwidth"]


def test_what_making_the_machine_emitted_is_stated_whole_and_exactly(tmp_path: Path) -> None:
    home, hardware = AgentHome(tmp_path), look(NoGpus(), SECRET)
    assert embodied_of(None, None, None) is None
    assert "embodied" not in registration_body(home, hardware, Terms("IS"))
    body = registration_body(home, hardware, Terms("IS", embodied=embodied_of("1283.5", 4, "datasheet")))
    assert body["embodied"] == {"grams_co2e": 1_283_500, "lifetime_hours": 35_040, "source": "datasheet"}


@pytest.mark.parametrize(
    "stated",
    [("1283", 4, None), ("1283", None, "datasheet"), (None, 4, "datasheet"), ("1283", 4, "")]
    + [(kilograms, 4, "datasheet") for kilograms in ("", "-1", "1e3", "1.2345", "1,283", "12345678", "\u0661", "1\n")],
)
def test_half_a_statement_and_a_weight_that_is_none_are_refused(stated: tuple[Any, Any, Any]) -> None:
    with pytest.raises(AgentRefused):
        embodied_of(*stated)


def routes(folder: Path, *lines: str, six: str = "") -> Path:
    """A folder as the kernel tells its routes in."""
    folder.mkdir()
    (folder / "route").write_text("\n".join(["Iface Destination Gateway Flags RefCnt Use Metric Mask MTU", *lines]))
    (folder / "ipv6_route").write_text(six)
    return folder


ZEROS = "0" * 32


@pytest.mark.parametrize(
    ("line", "six", "expected"),
    [
        ("eth7 00000000 0101A8C0 0003 0 0 0 00000000 0", "", {"eth7"}),
        ("eth7 0000A8C0 00000000 0001 0 0 0 0000FFFF 0", "", set()),
        ("eth7 00000000 00000000 0001 0 0 0 00000080 0", "", set()),
        ("eth7 00000000 0101A8C0 0002 0 0 0 00000000 0", "", set()),
        ("eth7 00000000 0101A8C0 0201 0 0 0 00000000 0", "", set()),
        ("", f"{ZEROS} 00 {ZEROS} 00 {ZEROS} 00000400 00000001 00000000 00000003 wlan0\n", {"wlan0"}),
        ("", f"{ZEROS} 00 {ZEROS} 00 {ZEROS} ffffffff 00000001 00000000 00200200 lo\n", set()),
        ("", f"fd{ZEROS[2:]} 40 {ZEROS} 00 {ZEROS} 00000100 00000001 00000000 00000001 wlan0\n", set()),
    ],
)
def test_a_line_needs_a_default_route_that_leads_somewhere(
    tmp_path: Path, line: str, six: str, expected: set[str]
) -> None:
    assert default_routes(routes(tmp_path / "net", *filter(None, [line]), six=six)) == expected


def test_without_a_table_of_routes_or_an_interface_that_is_up_the_line_is_down(tmp_path: Path) -> None:
    assert look_at_line(tmp_path / "none") == Line(())
    net = routes(tmp_path / "net", "nosuch7 00000000 0101A8C0 0003 0 0 0 00000000 0")
    assert default_routes(net) == {"nosuch7"}
    assert not look_at_line(net).up


def test_a_sample_of_this_machine_is_kept_once_a_minute(tmp_path: Path) -> None:
    clock = HandClock()
    store = Store(AgentHome(tmp_path / "agent").path)
    (tmp_path / "source").write_bytes(bytes(1_500))
    store.keep(tmp_path / "source")
    line = Line(("eth7",), 11, 22)
    sampler = Sampler(tmp_path, HandGpus(), Energy(Rapl(tmp_path / "none")), clock, store, lambda: line)
    for _ in range(3):
        clock.move(30_000)
        sampler.keep(sample := sampler.take())
    assert sample.memory_mib > 0
    assert sample.energy_source == "nvml-power"
    assert sample.energy_microjoules == 2 * 30_000 * 200_000
    assert (sample.line, sample.network_sent_bytes, sample.network_received_bytes) == (("eth7",), 11, 22)
    assert (sample.stored_bytes, 0 < sample.disk_used_mib <= sample.disk_total_mib) == (1_500, True)
    (path,) = tmp_path.glob("*.jsonl")
    assert len(path.read_text().splitlines()) == 2
