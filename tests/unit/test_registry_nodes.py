"""Registering a node: its terms, its form, its minimums."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from events.genesis import CarbonFactor, MeteringRules
from events.registry import (
    Device,
    Embodied,
    NodeActivated,
    NodeRegistered,
    Window,
)
from services.kernel.errors import InvalidField, PermissionDenied
from services.registry import errors
from tests.registry_world import World, community, device, gpu, key, member, node, registration, with_metering_minimums

MINIMUM_MIB = 7_629
"""8 GB in whole MiB, METERING's minimum of GPU memory and of memory."""


def cpu_only(**other: Any) -> dict[str, Any]:
    return {"devices": (), "cpu_milli": 4_000, "memory_mib": MINIMUM_MIB, **other}


def test_a_node_joins_with_everything_its_owner_stated() -> None:
    world = World()
    registered, activated = world.when(registration("one", label="attic"), "aurora")
    assert isinstance(registered, NodeRegistered)
    assert (registered.node, registered.owner, registered.label) == (node("one"), member("aurora"), "attic")
    assert registered.authorization == "jws-of-one"
    assert activated == NodeActivated(node("one"))
    assert world.status("one") == "active"


@pytest.mark.parametrize("embodied", [Embodied(0, 8_760, "x"), Embodied(10**9, 876_000, "datasheet of 2024")])
def test_an_owner_may_state_what_making_the_machine_emitted(embodied: Embodied) -> None:
    world = World()
    stated, _ = world.when(registration("one", embodied=embodied), "aurora")
    silent, _ = world.when(registration("two"), "aurora")
    assert stated.embodied == embodied
    assert b"embodied" not in msgspec.json.encode(silent)


def test_where_challenges_come_first_a_new_node_waits() -> None:
    world = World(with_metering_minimums())
    assert [type(fact) for fact in world.when(registration("one"), "aurora")] == [NodeRegistered]
    assert world.status("one") == "registered"


def test_a_member_without_the_role_provider_lends_nothing() -> None:
    with pytest.raises(PermissionDenied):
        World().when(registration("one"), "lab")


@pytest.mark.parametrize(
    ("resource", "below", "enough"),
    [
        (
            "gpu_memory_mib",
            {"devices": (gpu("g", memory_mib=MINIMUM_MIB - 1),)},
            {"devices": (gpu("g", memory_mib=MINIMUM_MIB),)},
        ),
        ("gpu_hours_per_day", {"window": Window(22, 1)}, {"window": Window(22, 2)}),
        ("cpu_milli", cpu_only(cpu_milli=3_999), cpu_only()),
        ("memory_mib", cpu_only(memory_mib=MINIMUM_MIB - 1), cpu_only()),
        ("storage_bytes", {"storage_bytes": 99_999_999_999}, {"storage_bytes": 100_000_000_000}),
        (
            "bandwidth_bits_per_second",
            {"bandwidth_bits_per_second": 49_999_999},
            {"bandwidth_bits_per_second": 50_000_000},
        ),
    ],
)
def test_the_minimums_of_what_is_offered_are_kept(resource: str, below: dict[str, Any], enough: dict[str, Any]) -> None:
    world = World(with_metering_minimums())
    with pytest.raises(errors.BelowMinimum) as caught:
        world.when(registration("one", **below), "aurora")
    assert caught.value.fields["resource"] == resource
    world.when(registration("one", **enough), "aurora")


def test_one_small_gpu_among_large_ones_is_refused() -> None:
    devices = (gpu("large"), gpu("small", memory_mib=4_096))
    with pytest.raises(errors.BelowMinimum):
        World(with_metering_minimums()).when(registration("one", devices), "aurora")


def test_the_few_cores_of_a_gpu_node_only_describe_it() -> None:
    world = World(with_metering_minimums())
    world.joins("one", cpu_milli=1_000, memory_mib=2_048)
    assert world.status("one") == "registered"


def test_a_node_that_states_nothing_of_what_is_pooled_is_refused() -> None:
    world = World()
    with pytest.raises(errors.NothingPayable):
        world.when(registration("one", (), cpu_milli=0), "aurora")
    resources = msgspec.structs.replace(community().resources, offered=("gpu",))
    with pytest.raises(errors.NothingPayable):
        World(community(resources=resources, metering=MeteringRules())).when(registration("one", ()), "aurora")


def test_a_node_without_gpus_has_nothing_to_be_challenged_and_is_active_at_once() -> None:
    world = World(with_metering_minimums())
    world.when(registration("one", **cpu_only()), "aurora")
    assert world.status("one") == "active"


@pytest.mark.parametrize("terms", [{"no_sensitive_data": False}, {"security_baseline": 0}, {"security_baseline": 2}])
def test_the_terms_are_accepted_or_nothing_is_lent(terms: dict[str, Any]) -> None:
    with pytest.raises(errors.TermsNotAccepted):
        World().when(registration("one", **terms), "aurora")


def test_a_device_stands_once_in_a_node() -> None:
    with pytest.raises(errors.DeviceRepeated):
        World().when(registration("one", (gpu("g"), gpu("g"))), "aurora")


STATED = {"cpu": "cpu_milli", "storage": "storage_bytes", "bandwidth": "bandwidth_bits_per_second"}


@pytest.mark.parametrize(("kind", "stated"), STATED.items())
def test_a_node_has_one_device_of_each_kind_but_gpus_and_it_is_all_that_the_node_states(kind: Any, stated: str) -> None:
    world = World()
    devices = [Device(device(name), kind, "model", 10**12) for name in ("a", "b")]
    with pytest.raises(errors.DeviceRepeated):
        world.when(registration("one", devices, **{stated: 10**12}), "aurora")
    with pytest.raises(InvalidField):
        world.when(registration("one", devices[:1], **{stated: 10**12 - 1}), "aurora")
    world.joins("one", devices[:1], **{stated: 10**12})


def test_a_node_has_at_most_64_devices() -> None:
    devices = [gpu(f"g{number}") for number in range(65)]
    world = World()
    with pytest.raises(errors.TooManyDevices):
        world.when(registration("one", devices), "aurora")
    world.joins("one", devices[:64])


@pytest.mark.parametrize(
    "wrong",
    [
        {"devices": (Device("GPU-1234", "gpu", "T4", 1_000, 15_360),)},
        {"devices": (gpu("g", capacity=999),)},
        {"devices": (gpu("g", model=""),)},
        {"devices": (gpu("g", model="T4\x00"),)},
        {"zone": "france"},
        {"zone": ""},
        {"pue_milli": 999},
        {"embodied": Embodied(-1, 8_760, "datasheet")},
        {"embodied": Embodied(10**9 + 1, 8_760, "datasheet")},
        {"embodied": Embodied(1, 8_759, "datasheet")},
        {"embodied": Embodied(1, 876_001, "datasheet")},
        {"embodied": Embodied(1, 8_760, "")},
        {"embodied": Embodied(1, 8_760, "a\u202eb")},
        {"embodied": Embodied(1, 8_760, "x" * 81)},
        {"cpu_milli": -1},
        {"storage_bytes": 2**63},
        {"window": Window(5, 5)},
        {"window": Window(24, 3)},
        {"window": Window(-1, 3)},
        {"label": "x" * 81},
        {"label": "a\u202eb"},
    ],
)
def test_a_registration_out_of_form_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidField):
        World().when(registration("one", **wrong), "aurora")


def test_a_node_joins_once_and_its_key_is_nobody_elses() -> None:
    world = World()
    world.joins("one")
    with pytest.raises(errors.KeyInUse):
        world.when(registration("one"), "aurora")
    with pytest.raises(errors.KeyInUse):
        world.when(registration("two", key=key("lab")), "aurora")


def test_a_grid_zone_without_a_carbon_factor_is_refused_where_there_are_factors() -> None:
    factor = CarbonFactor(zone="FR", id="rte-2024", year=2024, method="average", grams_per_kwh=22, low=15, high=60)
    founded = community()
    rules = msgspec.structs.replace(founded.metering, carbon_factors=(factor,))
    world = World(msgspec.structs.replace(founded, metering=rules))
    with pytest.raises(errors.UnknownZone):
        world.when(registration("one", zone="DE"), "aurora")
    assert world.when(registration("one", zone="FR"), "aurora")
