"""A node's life: verified, active, suspended, retired, and what its owner states meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

from events.catalog import Recorded
from events.metering import ChallengeResult, ChallengeResultsRecorded
from events.registry import (
    ChallengesNoted,
    NodeActivated,
    NodeLabelled,
    NodeReinstated,
    NodeRetired,
    NodeSuspended,
    NodeVerified,
    NodeWindowStated,
    Window,
)
from services.kernel.errors import PermissionDenied
from services.registry import commands, errors
from services.registry.policies import verify_nodes
from tests.registry_world import World, device, gpu, member, node, registration, with_metering_minimums


def results(
    name: str, outcome: str, fact_id: str = "f-1", gpu_name: str | None = None, challenges: str = "012"
) -> Recorded:
    """A fact with one result per sign of `outcome`, each of the challenge below it: + passed, - failed."""
    passed = tuple(sign == "+" for sign in outcome)
    made = tuple(
        ChallengeResult(
            challenge=challenge,
            device=device(gpu_name or f"{name}-gpu"),
            model="T4",
            work_class="infer",
            benchmark=f"benchmark-{number}",
            seed="1",
            digest="d",
            start_ms=0,
            end_ms=1,
            throughput="5711.83",
        )
        for number, (_, challenge) in enumerate(zip(outcome, challenges, strict=False))
    )
    fact = ChallengeResultsRecorded(
        node=node(name),
        owner=member("aurora"),
        challenger=member("steward"),
        results=made,
        passed=passed,
        challenger_jws="c",
        node_jws="n",
    )
    return Recorded("metering", 1, node(name), 1, 0, fact_id, None, fact)


def noted(world: World, recorded: Recorded) -> list[Any]:
    return [fact for command in verify_nodes(recorded) for fact in world.spec.when(command, "policy/verify-nodes")]


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


def test_the_runs_of_one_challenge_count_once_and_only_when_all_passed() -> None:
    world = World(with_metering_minimums())
    world.joins("one")
    facts = noted(world, results("one", "+++++-", challenges="aaabcc"))
    assert facts == [ChallengesNoted(node("one"), {device("one-gpu"): 2}, "f-1")]


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
