"""One device UUID is active on one node network-wide; two claims suspend both."""

from __future__ import annotations

from typing import Any

import pytest

from events.registry import NodeActivated, NodeRegistered, NodeReinstated, NodeRetired, NodeSuspended
from services.kernel.errors import PermissionDenied
from services.registry import commands, errors
from tests.registry_world import World, device, gpu, node, registration, with_metering_minimums
from tests.spec import NOW_US

NOW_MS = NOW_US // 1_000


def answer(name: str, **other: Any) -> commands.Answer:
    fields: dict[str, Any] = {
        "node": node(name),
        "device": device("g"),
        "challenge": "nonce-1",
        "answered_at_ms": NOW_MS,
        "digest": "beef",
        "jws": f"answer-of-{name}",
    }
    return commands.Answer(**{**fields, **other})


def settle(*answers: commands.Answer) -> commands.ReinstateNodes:
    return commands.ReinstateNodes(device("g"), answers, "steward-jws")


def disputed(world: World | None = None) -> World:
    world = world or World()
    world.joins("one", (gpu("g"),))
    world.joins("two", (gpu("g"),), owner="basalt")
    return world


def test_two_claims_to_one_device_suspend_both_in_the_commit_of_the_second() -> None:
    world = World()
    world.joins("one", (gpu("g"),))
    facts = world.when(registration("two", (gpu("g"),)), "basalt")
    assert isinstance(facts[0], NodeRegistered)
    assert facts[1:] == [
        NodeSuspended(node("one"), "duplicate-device", device("g")),
        NodeSuspended(node("two"), "duplicate-device", device("g")),
    ]
    assert {world.status("one"), world.status("two")} == {"suspended"}


def test_a_third_claim_joins_the_dispute() -> None:
    world = disputed()
    facts = world.when(registration("three", (gpu("g"),)), "cedar")
    assert facts[1:] == [NodeSuspended(node("three"), "duplicate-device", device("g"))]


def test_one_answer_to_one_challenge_in_one_second_from_each_reinstates_all() -> None:
    world = disputed()
    facts = world.when(settle(answer("one"), answer("two", answered_at_ms=NOW_MS - 999)), "steward")
    evidence = ("answer-of-one", "answer-of-two", "steward-jws")
    assert set(facts) == {
        NodeReinstated(node("one"), evidence, "duplicate-device", "active", device("g")),
        NodeReinstated(node("two"), evidence, "duplicate-device", "registered", device("g")),
        NodeActivated(node("two")),
    }
    assert {world.status("one"), world.status("two")} == {"active"}
    with pytest.raises(errors.NotInDispute):
        world.when(settle(answer("one"), answer("two")), "steward")


@pytest.mark.parametrize(
    "answers",
    [
        (answer("one"),),
        (answer("one"), answer("one")),
        (answer("one"), answer("two"), answer("three")),
        (answer("one"), answer("two", challenge="nonce-2")),
        (answer("one"), answer("two", digest="dead")),
        (answer("one"), answer("two", device=device("h"))),
        (answer("one"), answer("two", answered_at_ms=NOW_MS - 1_000)),
        (answer("one", answered_at_ms=NOW_MS - 3_600_001), answer("two", answered_at_ms=NOW_MS - 3_600_001)),
        (answer("one", answered_at_ms=NOW_MS + 5_001), answer("two", answered_at_ms=NOW_MS + 5_001)),
    ],
)
def test_answers_that_do_not_show_two_devices_end_nothing(answers: tuple[commands.Answer, ...]) -> None:
    world = disputed()
    with pytest.raises(errors.AnswersDisagree):
        world.when(settle(*answers), "steward")
    assert world.status("one") == "suspended"


def test_only_a_steward_settles_a_dispute() -> None:
    with pytest.raises(PermissionDenied):
        disputed().when(settle(answer("one"), answer("two")), "aurora")


def test_a_device_nobody_claims_or_disputes_is_refused() -> None:
    world = World()
    with pytest.raises(errors.UnknownDevice):
        world.when(settle(answer("one"), answer("two")), "steward")
    world.joins("one", (gpu("g"),))
    with pytest.raises(errors.NotInDispute):
        world.when(settle(answer("one"), answer("two")), "steward")


def test_when_one_claimant_retires_the_other_is_reinstated_in_the_same_commit() -> None:
    world = disputed()
    facts = world.when(commands.RetireNode(node("two"), "jws"), "basalt")
    assert facts == [
        NodeRetired(node("two"), "jws"),
        NodeReinstated(node("one"), ("jws",), "duplicate-device", "active", device("g")),
    ]
    assert world.status("one") == "active"


def test_of_three_claimants_two_stay_in_dispute() -> None:
    world = disputed()
    world.joins("three", (gpu("g"),), owner="cedar")
    assert world.when(commands.RetireNode(node("two"), "jws"), "basalt") == [NodeRetired(node("two"), "jws")]
    assert {world.status("one"), world.status("three")} == {"suspended"}


def test_a_node_that_disputes_two_devices_waits_for_both() -> None:
    world = World()
    world.joins("one", (gpu("g"),))
    world.joins("two", (gpu("h"),), owner="basalt")
    world.joins("three", (gpu("g"), gpu("h")), owner="cedar")
    world.when(commands.RetireNode(node("one"), "jws"), "aurora")
    assert world.status("three") == "suspended"
    facts = world.when(commands.RetireNode(node("two"), "jws"), "basalt")
    assert facts[-1] == NodeActivated(node("three"))
    assert world.status("three") == "active"


def test_a_retirement_that_ends_two_disputes_at_once_activates_once() -> None:
    world = World()
    world.joins("one", (gpu("g"), gpu("h")))
    world.joins("two", (gpu("g"), gpu("h")), owner="basalt")
    facts = world.when(commands.RetireNode(node("one"), "jws"), "aurora")
    assert [type(fact) for fact in facts] == [NodeRetired, NodeReinstated, NodeReinstated, NodeActivated]
    assert [fact.status for fact in facts[1:3]] == ["suspended", "registered"]
    assert world.status("two") == "active"


def test_a_dispute_does_not_end_by_an_ordinary_reinstatement() -> None:
    world = disputed()
    with pytest.raises(errors.NotSuspended):
        world.when(commands.ReinstateNode(node("one"), "steward", "jws"), "steward")


def test_a_settled_dispute_does_not_replace_the_first_challenges() -> None:
    world = disputed(World(with_metering_minimums()))
    world.when(settle(answer("one"), answer("two")), "steward")
    assert {world.status("one"), world.status("two")} == {"registered"}


def test_an_owner_that_claims_its_own_device_twice_suspends_both_of_its_nodes() -> None:
    world = World()
    world.joins("one", (gpu("g"),))
    world.joins("two", (gpu("g"),))
    assert {world.status("one"), world.status("two")} == {"suspended"}
