"""Nodes: terms, minimums, the life cycle, what an owner states."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from events.catalog import Recorded
from events.metering import ChallengeResult, ChallengeResultsRecorded
from events.registry import (
    ChallengesNoted,
    Device,
    NodeActivated,
    NodeLabelled,
    NodeRegistered,
    NodeReinstated,
    NodeRetired,
    NodeSuspended,
    NodeVerified,
    NodeWindowStated,
    Window,
)
from services.kernel.errors import InvalidField, PermissionDenied
from services.registry import commands, errors
from services.registry.policies import verify_nodes
from tests.registry_world import World, community, device, gpu, key, member, node, registration, with_metering_minimums

MINIMUM_MIB = 7_629
"""8 GB in whole MiB, METERING's minimum of GPU memory and of memory."""


def cpu_only(**other: Any) -> dict[str, Any]:
    return {"devices": (), "cpu_milli": 4_000, "memory_mib": MINIMUM_MIB, **other}


def results(name: str, outcome: str, fact_id: str = "f-1", gpu_name: str | None = None) -> Recorded:
    """A fact with one result per sign of `outcome`: + passed, - failed."""
    passed = tuple(sign == "+" for sign in outcome)
    one = ChallengeResult(
        challenge="c",
        device=device(gpu_name or f"{name}-gpu"),
        model="T4",
        work_class="infer",
        benchmark="resnet50-offline",
        seed="1",
        digest="d",
        start_ms=0,
        end_ms=1,
        throughput="5711.83",
    )
    fact = ChallengeResultsRecorded(
        node=node(name),
        owner=member("aurora"),
        challenger=member("steward"),
        results=(one,) * len(passed),
        passed=passed,
        challenger_jws="c",
        node_jws="n",
    )
    return Recorded("metering", 1, node(name), 1, 0, fact_id, None, fact)


def noted(world: World, recorded: Recorded) -> list[Any]:
    return [fact for command in verify_nodes(recorded) for fact in world.spec.when(command, "policy/verify-nodes")]


def test_a_node_joins_with_everything_its_owner_stated() -> None:
    world = World()
    registered, activated = world.when(registration("one", label="attic"), "aurora")
    assert isinstance(registered, NodeRegistered)
    assert (registered.node, registered.owner, registered.label) == (node("one"), member("aurora"), "attic")
    assert registered.authorization == "jws-of-one"
    assert activated == NodeActivated(node("one"))
    assert world.status("one") == "active"


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
        World(community(resources=resources)).when(registration("one", ()), "aurora")


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


def test_three_passed_results_per_gpu_verify_a_node_over_several_facts() -> None:
    world = World(with_metering_minimums())
    world.joins("one", (gpu("one-gpu"), gpu("one-b")))
    assert noted(world, results("one", "+-+")) == [ChallengesNoted(node("one"), {device("one-gpu"): 2}, "f-1")]
    noted(world, results("one", "+++", fact_id="f-2", gpu_name="one-b"))
    assert world.status("one") == "registered"
    facts = noted(world, results("one", "+", fact_id="f-3"))
    assert facts == [
        ChallengesNoted(node("one"), {device("one-gpu"): 1}, "f-3"),
        NodeVerified(node("one"), "f-3"),
        NodeActivated(node("one")),
    ]
    assert world.status("one") == "active"
    assert noted(world, results("one", "+", fact_id="f-4")) == []


def test_failed_results_verify_nobody() -> None:
    world = World(with_metering_minimums())
    world.joins("one")
    assert noted(world, results("one", "---")) == []
    assert world.status("one") == "registered"


def test_results_of_other_devices_and_unknown_nodes_count_nothing() -> None:
    world = World(with_metering_minimums())
    world.joins("one")
    assert noted(world, results("one", "+++", gpu_name="foreign")) == []
    assert noted(world, results("nowhere", "+")) == []


def test_a_verified_node_under_suspension_is_active_only_when_that_ends() -> None:
    world = World(with_metering_minimums())
    world.joins("one")
    world.when(commands.SuspendNode(node("one"), "owner", "jws"), "aurora")
    assert [type(fact) for fact in noted(world, results("one", "+++"))] == [ChallengesNoted, NodeVerified]
    assert world.status("one") == "suspended"
    facts = world.when(commands.ReinstateNode(node("one"), "owner", "jws"), "aurora")
    assert facts == [
        NodeReinstated(node("one"), ("jws",), "owner", "verified"),
        NodeActivated(node("one")),
    ]


def test_a_suspension_never_replaces_the_first_challenges() -> None:
    world = World(with_metering_minimums())
    world.joins("one")
    world.when(commands.SuspendNode(node("one"), "owner", "jws"), "aurora")
    facts = world.when(commands.ReinstateNode(node("one"), "owner", "jws"), "aurora")
    assert facts == [NodeReinstated(node("one"), ("jws",), "owner", "registered")]
    assert world.status("one") == "registered"


def test_an_owner_pauses_its_node_and_a_steward_cannot_end_that_pause() -> None:
    world = World()
    world.joins("one")
    (fact,) = world.when(commands.SuspendNode(node("one"), "owner", "jws"), "aurora")
    assert fact == NodeSuspended(node("one"), "owner", None, "jws")
    with pytest.raises(errors.AlreadySuspended):
        world.when(commands.SuspendNode(node("one"), "owner", "jws"), "aurora")
    with pytest.raises(errors.NotTheOwner):
        world.when(commands.ReinstateNode(node("one"), "owner", "jws"), "steward")


def test_an_owner_cannot_end_a_stewards_suspension_and_each_ends_on_its_own() -> None:
    world = World()
    world.joins("one")
    world.when(commands.SuspendNode(node("one"), "owner", "jws"), "aurora")
    world.when(commands.SuspendNode(node("one"), "steward", "jws"), "steward")
    with pytest.raises(PermissionDenied):
        world.when(commands.ReinstateNode(node("one"), "steward", "jws"), "aurora")
    (first,) = world.when(commands.ReinstateNode(node("one"), "owner", "jws"), "aurora")
    assert first.status == "suspended"
    world.when(commands.ReinstateNode(node("one"), "steward", "jws"), "steward")
    assert world.status("one") == "active"
    with pytest.raises(errors.NotSuspended):
        world.when(commands.ReinstateNode(node("one"), "steward", "jws"), "steward")


def test_another_provider_suspends_nothing() -> None:
    world = World()
    world.joins("one")
    for cause, refusal in (("owner", errors.NotTheOwner), ("steward", PermissionDenied)):
        with pytest.raises(refusal):
            world.when(commands.SuspendNode(node("one"), cause, "jws"), "basalt")  # type: ignore[arg-type]


def test_a_retired_node_is_gone_for_good_and_its_device_may_be_claimed_again() -> None:
    world = World()
    world.joins("one", (gpu("g"),))
    assert world.when(commands.RetireNode(node("one"), "jws"), "aurora") == [NodeRetired(node("one"), "jws")]
    for command in (
        commands.RetireNode(node("one"), "jws"),
        commands.SuspendNode(node("one"), "owner", "jws"),
        commands.LabelNode(node("one"), "x"),
    ):
        with pytest.raises(errors.NodeIsRetired):
            world.when(command, "aurora")
    with pytest.raises(errors.KeyInUse):
        world.when(registration("one"), "aurora")
    world.joins("two", (gpu("g"),), owner="basalt")
    assert world.status("two") == "active"


def test_only_the_owner_retires_states_and_labels() -> None:
    world = World()
    world.joins("one")
    for command in (
        commands.RetireNode(node("one"), "jws"),
        commands.StateWindow(node("one"), Window(), "jws"),
        commands.LabelNode(node("one"), "mine"),
    ):
        with pytest.raises(errors.NotTheOwner):
            world.when(command, "basalt")
        with pytest.raises(errors.NotTheOwner):
            world.when(command, "steward")


def test_a_window_is_stated_within_the_minimum() -> None:
    world = World(with_metering_minimums())
    world.joins("one")
    (fact,) = world.when(commands.StateWindow(node("one"), Window(20, 4), "jws"), "aurora")
    assert fact == NodeWindowStated(node("one"), Window(20, 4), "jws")
    with pytest.raises(errors.BelowMinimum):
        world.when(commands.StateWindow(node("one"), Window(0, 3), "jws"), "aurora")


def test_a_label_moves_nothing() -> None:
    world = World()
    world.joins("one")
    assert world.when(commands.LabelNode(node("one"), "attic"), "aurora") == [NodeLabelled(node("one"), "attic")]
    assert world.status("one") == "active"


def test_an_unknown_node_is_refused() -> None:
    with pytest.raises(errors.UnknownNode):
        World().when(commands.LabelNode(node("nowhere"), "x"), "aurora")
