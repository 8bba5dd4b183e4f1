"""Facts of the registry and of metering that become the treasury's commands."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from events import metering, registry
from events.catalog import Recorded
from events.envelope import Fact
from events.genesis import Pool
from events.treasury import GateAnswer
from infra.gate import Ungated
from services.kernel.decider import Command, Policy
from services.kernel.errors import Unavailable
from services.kernel.jws import public_key
from services.treasury.commands import (
    AdoptGenesis,
    ForfeitHoldback,
    NoteEpochScores,
    OpenMemberAccount,
    PayLateUsage,
    ReleaseHoldback,
    SettleEpoch,
)
from services.treasury.errors import AnchorPending
from services.treasury.policies import policies
from services.treasury.service import service
from tests.treasury_given import ADA, BEN, community, node, scored


@dataclass
class Gate:
    """A gate that answers what it was told to, and remembers what it was asked."""

    says: GateAnswer | None
    asked: tuple[str, int] | None = None

    def answer(self, service: str, position: int) -> GateAnswer | None:
        self.asked = (service, position)
        return self.says


def react(fact: Fact, gate: Gate | Ungated | None = None) -> list[Command]:
    """The commands all policies together make of a fact."""
    source = fact.TYPE.partition(".")[0]
    recorded = Recorded(source, 17, "some/stream", 1, 1_760_000_000_123_456, "fact-id", None, fact)
    listening = [policy for policy in policies(gate or Ungated()) if type(fact) in policy.listens]
    assert all(policy.source == source for policy in listening)
    return [command for policy in listening for command in policy.react(recorded)]


def score(number: int, owner: str, micro: int) -> metering.NodeScore:
    return metering.NodeScore(node(number), owner, str(micro), "0", "0", "0", ())


def closed(**totals: int) -> metering.EpochClosed:
    sums = {kind: metering.EpochTotals(str(micro), "0", "0", "0", 1) for kind, micro in totals.items()}
    return metering.EpochClosed(4, 0, 1, "99", 2, "00", sums, {}, "openb")


def test_the_founding_defines_the_book() -> None:
    document = community(Pool(name="all", share_ppm=1_000_000))
    assert react(registry.CommunityFounded(document, "00")) == [AdoptGenesis(document, 1_760_000_000_123)]


def test_a_new_member_gets_an_account() -> None:
    fact = registry.MemberRegistered(ADA, "ada", "human", public_key(b"a" * 32))
    assert react(fact) == [OpenMemberAccount(ADA)]


def test_a_page_of_scores_is_noted() -> None:
    fact = metering.EpochPaged(4, 1, (score(1, ADA, 5), score(2, BEN, 0)))
    assert react(fact) == [NoteEpochScores(4, 1, "fact-id", scored((1, ADA, 5), (2, BEN, 0)))]


def test_a_closed_epoch_is_settled_with_the_total_of_each_kind() -> None:
    gate = Gate("anchored")
    assert react(closed(gpu=5, cpu=2), gate) == [
        SettleEpoch(4, 2, "5", "openb", "fact-id", "anchored", (("cpu", "2"),))
    ]
    assert gate.asked == ("metering", 17)


def test_late_usage_is_paid() -> None:
    fact = metering.LateUsageScored(4, 6, 1, 2, "9", (score(1, ADA, 5),))
    assert react(fact) == [PayLateUsage(4, 6, 1, 2, "9", "fact-id", scored((1, ADA, 5)), "ungated")]


def test_pages_of_another_kind_keep_their_kind() -> None:
    page = metering.EpochPaged(4, 1, (score(1, ADA, 5),), "storage")
    assert react(page) == [NoteEpochScores(4, 1, "fact-id", scored((1, ADA, 5)), "storage")]
    late = metering.LateUsageScored(4, 6, 0, 1, "5", (score(1, ADA, 5),), "cpu", (node(1),))
    assert react(late) == [PayLateUsage(4, 6, 0, 1, "5", "fact-id", scored((1, ADA, 5)), "ungated", "cpu", (node(1),))]


def test_a_holdback_that_has_ended_is_paid_behind_the_gate_or_forfeited() -> None:
    released = metering.HoldbackReleased(4, "gpu", (node(1),))
    assert react(released, Gate("anchored")) == [ReleaseHoldback(4, "gpu", (node(1),), "fact-id", "anchored")]
    forfeited = metering.HoldbackForfeited(4, "cpu", (node(1),), "upheld-dispute")
    assert react(forfeited, Gate(None)) == [ForfeitHoldback(4, "cpu", (node(1),), "fact-id")]


@pytest.mark.parametrize(
    "fact",
    [
        closed(gpu=5),
        metering.LateUsageScored(4, 6, 0, 1, "0", ()),
        metering.HoldbackReleased(4, "gpu", (node(1),)),
    ],
)
def test_a_gate_that_says_wait_makes_the_policy_wait(fact: Fact) -> None:
    with pytest.raises(AnchorPending) as waiting:
        react(fact, Gate(None))
    assert isinstance(waiting.value, Unavailable)
    assert waiting.value.fields["retry_after_seconds"] == 1


def test_a_page_needs_no_gate() -> None:
    assert react(metering.EpochPaged(4, 1, ()), Gate(None)) == [NoteEpochScores(4, 1, "fact-id", ())]


def test_policy_names_are_the_published_ones() -> None:
    found: tuple[Policy, ...] = service(Ungated()).policies
    assert {policy.name for policy in found} == {
        "treasury.adopt-genesis",
        "treasury.open-accounts",
        "treasury.settle-epochs",
    }


def test_one_policy_follows_everything_of_an_epoch_so_that_its_order_holds() -> None:
    (policy,) = [policy for policy in service(Ungated()).policies if policy.source == "metering"]
    assert policy.listens == (
        metering.EpochPaged,
        metering.EpochClosed,
        metering.LateUsageScored,
        metering.HoldbackReleased,
        metering.HoldbackForfeited,
    )
