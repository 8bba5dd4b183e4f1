"""What is held back is released once it was earned, and forfeited by a failed challenge or an upheld dispute."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.genesis import MeteringRules
from events.metering import HoldbackForfeited, HoldbackReleased, LateUsageScored, StorageChallenged
from services.kernel.errors import InvalidField
from services.kernel.roles import ROLES
from services.kernel.routes import Caller
from services.kernel.snapshot import freeze, thaw
from services.metering import holding
from services.metering.commands import DisputeUsage, EndDispute, ForfeitHoldback, ReleaseHoldback
from services.metering.dispute_api import dispute_routes
from services.metering.dispute_errors import (
    DisputeKnown,
    DisputeOver,
    NotADisputant,
    NotAJudge,
    NothingHeld,
    UnknownDispute,
)
from services.metering.errors import UnknownNode
from services.metering.holdback import Holdback, held_again
from services.metering.service import service
from services.metering.slots import Slots, free_slot, is_taken, since, with_slot
from services.metering.state import Metering
from tests.holdback_world import HELD, Epochs, score
from tests.metering_world import HOUR, MINUTE, NOW_MS, World, device, lease_id, member, node


def seven_later(epochs: Epochs, after: int = 0) -> Epochs:
    """Close seven epochs in which nobody earns."""
    for epoch in range(after + 1, after + 8):
        epochs.close(epoch)
    return epochs


def released(epochs: Epochs, epoch: int, *names: str) -> HoldbackReleased:
    return HoldbackReleased(epochs.first + epoch, "gpu", tuple(sorted(map(node, names))))


def forfeited(epochs: Epochs, epoch: int, *names: str) -> HoldbackForfeited:
    return HoldbackForfeited(epochs.first + epoch, "gpu", tuple(sorted(map(node, names))), "failed-challenge")


def test_a_holdback_is_released_after_seven_later_epochs_and_a_passed_challenge() -> None:
    epochs = Epochs().close(0, score("one"), score("two"))
    epochs.challenge("one", 0)
    for epoch in range(1, 7):
        epochs.close(epoch)
    assert epochs.due() == []
    with pytest.raises(NothingHeld):
        epochs.spec.when(ReleaseHoldback(epochs.first), "clock")
    epochs.close(7)
    assert epochs.end() == [released(epochs, 0, "one")]
    assert epochs.due() == []
    epochs.challenge("two", 0)
    assert epochs.end() == [released(epochs, 0, "two")]
    assert not epochs.spec.state.holdback.held


def test_every_device_that_earned_needs_its_own_challenge() -> None:
    epochs = Epochs().close(0, score("one", (0, 1)))
    seven_later(epochs).challenge("one", 0, 0).challenge("one", 0, 0)
    assert epochs.due() == []
    epochs.challenge("one", 0, 1)
    assert epochs.end() == [released(epochs, 0, "one")]


def test_a_pass_takes_the_slot_of_its_epoch_or_the_nearest_earlier_free_one() -> None:
    epochs = Epochs().close(0, score("one")).close(1, score("one")).close(2, score("one"))
    seven_later(epochs, 2).challenge("one", 2)
    assert epochs.end() == [released(epochs, 2, "one")]
    epochs.challenge("one", 2)
    assert epochs.end() == [released(epochs, 1, "one")]
    epochs.challenge("one", 1)
    assert epochs.end() == [released(epochs, 0, "one")]
    # Every earlier slot is taken and nothing can come to them: the next pass is dropped.
    before = epochs.spec.state.holdback
    assert epochs.challenge("one", 2).spec.state.holdback == before


def test_a_slot_is_taken_also_where_nothing_is_held() -> None:
    # The device earned nothing in epoch 1: its pass there serves no other epoch.
    epochs = Epochs().close(0, score("one")).close(1).challenge("one", 1)
    assert seven_later(epochs, 1).end() == []
    assert epochs.challenge("one", 1).end() == [released(epochs, 0, "one")]


@given(st.permutations([3, 3, 5, 5, 5, 9]))
def test_the_taken_slots_do_not_depend_on_the_order_of_the_passes(ended: list[int]) -> None:
    taken: Slots = ()
    for epoch in ended:
        taken = with_slot(taken, free_slot(taken, epoch))
    assert taken == ((1, 5), (9, 9))
    assert [epoch for epoch in range(12) if is_taken(taken, epoch)] == [1, 2, 3, 4, 5, 9]
    assert (since(taken, 4), since(taken, 6), since(taken, 10)) == (((4, 5), (9, 9)), ((9, 9),), ())


def test_a_challenge_says_nothing_about_later_epochs() -> None:
    epochs = Epochs().close(0).challenge("one", 0).challenge("one", 0, passed=False).close(1, score("one"))
    epochs.challenge("one", 0).challenge("one", 0, passed=False)
    assert seven_later(epochs, 1).due() == []


def test_a_challenge_inside_the_epoch_meets_what_its_close_holds() -> None:
    epochs = Epochs().challenge("one", 0).close(0, score("one"))
    assert seven_later(epochs).end() == [released(epochs, 0, "one")]
    lost = Epochs().challenge("one", 0, passed=False).close(0, score("one"))
    assert lost.end() == [forfeited(lost, 0, "one")]


def test_a_failed_challenge_forfeits_the_epoch_in_which_it_ended() -> None:
    epochs = Epochs().close(0, score("one")).close(1, score("one"), score("two"))
    # Whether or not passes took its slot: until it is released it may be lost.
    epochs.challenge("one", 1).challenge("one", 1, passed=False)
    with pytest.raises(NothingHeld):
        epochs.dispute("one", 1)
    with pytest.raises(NothingHeld):
        epochs.spec.when(ReleaseHoldback(epochs.first + 1), "clock")
    assert epochs.end() == [forfeited(epochs, 1, "one")]
    assert set(epochs.spec.state.holdback.held) == {epochs.first, epochs.first + 1}
    with pytest.raises(NothingHeld):
        epochs.spec.when(ForfeitHoldback(epochs.first), "clock")


def test_a_failed_device_costs_its_node_the_epoch_though_its_own_usage_was_left_out() -> None:
    epochs = Epochs().close(0, score("one", (0,)), score("two")).challenge("one", 0, 1, passed=False)
    assert epochs.end() == [forfeited(epochs, 0, "one")]


def test_kinds_of_a_node_are_held_apart() -> None:
    epochs = Epochs().close(0, score("one", (0,))).close(1, score("one", (1,)), kind="cpu")
    epochs.challenge("one", 1, 1, work="cpu").challenge("one", 0, 1, passed=False, work="cpu")
    assert seven_later(epochs, 1).end() == [HoldbackReleased(epochs.first + 1, "cpu", (node("one"),))]
    assert epochs.challenge("one", 0, 0, passed=False).end() == [forfeited(epochs, 0, "one")]


def test_a_storage_challenge_speaks_for_its_device_too() -> None:
    epochs = Epochs().close(0, score("one"), kind="storage").close(1, score("one"), kind="storage")
    for number, passed in enumerate((True, False)):
        end = epochs.start(number) + HOUR // 2
        names = device("one"), lease_id("a"), str(number), member("steward")
        fact = StorageChallenged(node("one"), member("provider"), *names, passed, end - 1, end, "jws", "jws")
        epochs.give(node("one"), fact)
    assert epochs.end() == [HoldbackForfeited(epochs.first + 1, "storage", (node("one"),), "failed-challenge")]
    assert seven_later(epochs, 1).end() == [HoldbackReleased(epochs.first, "storage", (node("one"),))]


def test_a_score_of_zero_holds_nothing() -> None:
    assert not Epochs().close(0, score("one", micro=0)).spec.state.holdback.held


def test_without_a_holdback_nothing_is_kept() -> None:
    for rules in (MeteringRules(), MeteringRules(holdback_ppm=0)):
        epochs = Epochs(rules).challenge("one", 0).close(0, score("one")).challenge("one", 1, passed=False)
        assert epochs.spec.state.holdback == Holdback()
        with pytest.raises(NothingHeld):
            epochs.dispute("one", 1)


def test_what_comes_late_is_held_and_needs_a_challenge_too() -> None:
    epochs = Epochs().close(0).close(1).late(0, score("one"))
    assert seven_later(epochs, 1).end() == []
    assert epochs.challenge("one", 0).end() == [released(epochs, 0, "one")]


def test_late_devices_of_a_held_epoch_need_their_own_challenge() -> None:
    epochs = Epochs().close(0, score("one", (0,))).challenge("one", 0, 0).late(0, score("one", (0, 1)))
    assert seven_later(epochs).end() == []
    assert epochs.challenge("one", 0, 1).end() == [released(epochs, 0, "one")]


def test_what_comes_late_meets_the_challenges_that_were_there_before_it() -> None:
    epochs = Epochs().challenge("one", 0).challenge("two", 0, passed=False).close(0)
    epochs.late(0, score("one"), score("two"))
    assert epochs.end() == [forfeited(epochs, 0, "two")]
    assert seven_later(epochs).end() == [released(epochs, 0, "one")]


def test_what_is_late_after_the_end_follows_it_unless_the_release_did_not_cover_it() -> None:
    epochs = Epochs().close(0, score("one"), score("two")).challenge("one", 0).challenge("two", 0)
    held = epochs.spec.state.holdback
    number = epochs.first
    held = holding.with_end(held, number, "gpu", (node("one"),), number, released=True)
    held = holding.with_end(held, number, "gpu", (node("two"),), number, released=False)
    late = (score("one", (0,)), score("two", (0, 1)))
    assert held_again(held, number, "gpu", late) == ()
    assert holding.with_scores(held, number, "gpu", late) == held
    other = (score("one", (0, 1)), score("two", (0, 1)))
    assert held_again(held, number, "gpu", other) == (node("one"),)
    again = holding.with_scores(held, number, "gpu", other)
    assert dict(again.held[number]) == {("gpu", node("one")): tuple(sorted((device("one", 0), device("one", 1))))}
    assert node("one") not in {key[1] for key in again.ended[number]}
    assert list(again.releasable(number + 8)) == []
    served = holding.with_pass(again, device("one", 1), number, number)
    assert list(served.releasable(number + 8)) == [(number, [("gpu", node("one"))])]


def test_an_open_dispute_stops_the_release() -> None:
    epochs = Epochs().close(0, score("one"), score("two")).challenge("one", 0).challenge("two", 0)
    dispute = epochs.dispute("one", 0)
    assert seven_later(epochs).end() == [released(epochs, 0, "two")]
    epochs.rule(dispute, "dismissed")
    assert epochs.end() == [released(epochs, 0, "one")]


def test_an_upheld_dispute_forfeits_what_it_names() -> None:
    epochs = Epochs().close(0, score("one")).close(1, score("one")).close(2, score("one"))
    epochs.rule(epochs.dispute("one", 0, 2), "upheld")
    assert epochs.end() == [
        HoldbackForfeited(epochs.first + number, "gpu", (node("one"),), "upheld-dispute") for number in (0, 2)
    ]


def test_a_dispute_may_begin_while_its_epoch_goes_on_and_lies_on_what_the_epoch_earns() -> None:
    epochs = Epochs()
    epochs.rule(epochs.dispute("one", 0), "upheld")
    epochs.close(0, score("one"), score("two"))
    assert epochs.end() == [HoldbackForfeited(epochs.first, "gpu", (node("one"),), "upheld-dispute")]


def test_who_had_a_lease_there_then_may_dispute_it() -> None:
    epochs = Epochs(Epochs().world.rules, "one")
    with pytest.raises(NotADisputant):
        epochs.dispute("one", 0, by="consumer")
    epochs.world.lease("a", NOW_MS, NOW_MS + HOUR)
    epochs.dispute("one", 0, by="consumer")
    epochs.close(0, score("one")).close(1, score("one"))
    with pytest.raises(NotADisputant):
        epochs.dispute("one", 1, by="consumer")
    with pytest.raises(NotADisputant):
        epochs.dispute("one", 0, by="provider")


def test_a_dispute_is_about_something_held() -> None:
    epochs = Epochs().close(0, score("one")).close(1)
    for wrong in ((1,), (3,)):
        with pytest.raises(NothingHeld):
            epochs.dispute("one", *wrong)
    with pytest.raises(NothingHeld):
        epochs.dispute("two", 0)
    for numbers in ((), (epochs.first, epochs.first), tuple(range(36))):
        with pytest.raises(InvalidField):
            epochs.spec.when(DisputeUsage(node("one"), numbers, "why", "jws"), member("steward"))
    for reason in ("", "two\nlines", "x" * 1_001):
        with pytest.raises(InvalidField):
            epochs.spec.when(DisputeUsage(node("one"), (epochs.first,), reason, "jws"), member("steward"))
    with pytest.raises(UnknownNode):
        epochs.dispute("nobody's", 2)


def test_one_disputes_an_epoch_once() -> None:
    epochs = Epochs().close(0, score("one")).close(1, score("one"))
    dispute = epochs.dispute("one", 0)
    with pytest.raises(DisputeKnown):
        epochs.dispute("one", 0, 1)
    epochs.rule(dispute, "dismissed")
    with pytest.raises(DisputeKnown):
        epochs.dispute("one", 0, 1)
    epochs.dispute("one", 0, by="judge")


def test_a_steward_rules_who_neither_opened_it_nor_owns_the_node() -> None:
    epochs = Epochs().close(0, score("one"))
    dispute = epochs.dispute("one", 0)
    epochs.world.with_node("mine", owner="judge")
    for actor in ("steward", "consumer", "provider"):
        with pytest.raises(NotAJudge):
            epochs.rule(dispute, "upheld", by=actor)
    epochs.close(1, score("mine", owner="judge"))
    mine = epochs.dispute("mine", 1)
    with pytest.raises(NotAJudge):
        epochs.rule(mine, "dismissed", by="judge")
    with pytest.raises(UnknownDispute):
        epochs.spec.when(EndDispute("dispute/" + "0" * 32, "upheld", "jws"), member("judge"))
    epochs.rule(dispute, "dismissed")
    with pytest.raises(DisputeOver):
        epochs.rule(dispute, "upheld")


def test_the_clocks_commands_never_share_a_key() -> None:
    epochs = seven_later(Epochs().close(0, score("one"), score("two")))
    keys = set()
    for name in ("one", "two"):
        epochs.challenge(name, 0)
        (timed,) = service().due(epochs.spec.state, NOW_MS)
        keys.add(timed.key)
        epochs.end()
    assert keys == {f"release-holdback/{epochs.first}/{number}" for number in (0, 1)}


def test_what_nothing_can_come_to_any_more_is_forgotten() -> None:
    epochs = Epochs()
    for epoch in range(30):
        epochs.challenge("one", epoch).challenge("one", epoch).challenge("two", epoch, passed=epoch % 3 > 0)
        epochs.close(epoch, score("one"), score("two"))
        epochs.end()
        assert thaw(freeze(epochs.spec.state), Metering) == epochs.spec.state
    known = epochs.spec.state.holdback
    assert len(known.held) <= 8
    assert max(map(len, (known.ended, known.ends, known.failed))) <= 10
    assert {name: len(runs) for name, runs in known.slots.items()} == {device("one"): 1, device("two"): 3}
    assert min(runs[0][0] for runs in known.slots.values()) >= epochs.first + 22
    assert sum(map(len, known.of_device.values())) <= 16


def test_a_close_says_what_is_held_again() -> None:
    world = World(close_after_seconds=0, epoch_seconds=300, rules=HELD).with_node("one", 2)
    epoch, step = world.spec.state.first_live, 5 * MINUTE
    lease = world.lease("a", NOW_MS, NOW_MS + HOUR, devices=2)
    first, second = (one.device for one in lease.devices)
    world.at(NOW_MS + step).record("one", (first, lease.lease, NOW_MS, NOW_MS + step, 1_000))
    world.results("one", 0 if first == device("one", 0) else 1, "T4", ["5600"], NOW_MS + step - 1)
    for number in range(8):
        world.at(NOW_MS + (number + 1) * step).close(epoch + number)
    assert world.spec.when(ReleaseHoldback(epoch), "clock") == [HoldbackReleased(epoch, "gpu", (node("one"),))]
    # Within the hour the other card's reading comes; no challenge has spoken for that card.
    late = (second, lease.lease, NOW_MS, NOW_MS + step, 1_000)
    world.at(NOW_MS + 9 * step).record("one", late)
    (scored,) = [fact for fact in world.close(epoch + 8) if isinstance(fact, LateUsageScored)]
    assert (scored.epoch, scored.held_again) == (epoch, (node("one"),))
    assert set(world.spec.state.holdback.held[epoch]["gpu", node("one")]) == {first, second}


def test_disputes_come_in_signed_by_who_opens_or_ends_them() -> None:
    opened, ended = dispute_routes()
    caller = Caller(member("steward"), None, Epochs().spec.directory, "jws")
    body = opened.body(node=node("one"), epochs=[3, 4], reason="it was idle")  # type: ignore[union-attr]
    assert opened.command(body, caller) == DisputeUsage(node("one"), (3, 4), "it was idle", "jws")  # type: ignore[union-attr]
    ruling = ended.body(dispute="dispute/" + "0" * 32, ruling="upheld")  # type: ignore[union-attr]
    assert ended.command(ruling, caller) == EndDispute("dispute/" + "0" * 32, "upheld", "jws")  # type: ignore[union-attr]
    assert all(route.own_signature for route in (opened, ended))  # type: ignore[union-attr]
    assert (ROLES["usage.dispute"], ROLES["disputes.end"]) == ({"steward", "contributor"}, {"steward"})
