"""What is held back under any history, in metering and in the book together, beside a naive model of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from events.catalog import Recorded
from events.envelope import Fact, encode_data
from events.facts import catalog
from events.genesis import SubPool
from events.metering import (
    DeviceScore,
    EpochClosed,
    EpochPaged,
    EpochTotals,
    HeartbeatHourRecorded,
    HoldbackForfeited,
    HoldbackReleased,
    LateUsageScored,
    NodeScore,
)
from events.registry_terms import DeviceKind
from events.treasury import EpochSettled, HoldbackForfeitBooked, HoldbackPaid, LateRewardsPaid, RewardsPaid, ScoredNode
from events.values import HOUR_MS, PPM
from infra.gate import Ungated
from services.kernel.errors import Refusal
from services.kernel.snapshot import freeze, thaw
from services.metering.commands import DisputeUsage, EndDispute
from services.metering.holdback import held_again
from services.metering.state import Metering
from services.treasury.policies import settle_epochs
from services.treasury.state import Book
from tests.holdback_world import HELD, Epochs
from tests.metering_world import device, member, node
from tests.model import HoldbackModel
from tests.treasury_given import founded, settle

NAMES = ("one", "two", "three")
OWNERS = {"one": "provider", "two": "provider", "three": "other-provider"}
KINDS: tuple[DeviceKind, ...] = ("gpu", "cpu")
POOLS = (SubPool("cpu", 299_999, "3000000"), SubPool("gpu", 700_001, "40000000"))
EMISSION = 100_003
TENTH = 100_000

rows = st.lists(
    st.tuples(
        st.sampled_from(NAMES), st.sampled_from(KINDS), st.sets(st.integers(0, 1), min_size=1), st.integers(0, 3_000)
    ),
    max_size=5,
    unique_by=lambda row: row[:2],
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("close"), rows),
        st.tuples(st.just("close"), rows),
        st.tuples(st.just("late"), rows, st.integers(0, 9)),
        st.tuples(
            st.just("challenge"),
            st.sampled_from(NAMES),
            st.integers(0, 2),
            st.sampled_from([True] * 3 + [False]),
            st.integers(0, 2),
        ),
        st.tuples(st.just("dispute"), st.sampled_from(NAMES), st.integers(0, 8)),
        st.tuples(st.just("rule"), st.sampled_from(["upheld", "dismissed", "dismissed"])),
        st.tuples(st.just("end")),
    ),
    max_size=40,
)


def devices_of(row: tuple[str, str, set[int], int]) -> list[str]:
    """A node has two GPUs; its cores are one device."""
    name, kind, numbers, _ = row
    return [device(name, number) for number in sorted(numbers)] if kind == "gpu" else [device(name, 2)]


def entries(found: Sequence[tuple[str, str, set[int], int]], kind: str) -> tuple[NodeScore, ...]:
    return tuple(
        NodeScore(
            node(row[0]),
            member(OWNERS[row[0]]),
            str(row[3]),
            "0",
            "0",
            "0",
            tuple(DeviceScore(one, "infer", "7", 10_000, 900_000) for one in devices_of(row)),
        )
        for row in sorted(found, key=lambda row: node(row[0]))
        if row[1] == kind
    )


class History:
    """Metering and the treasury, one behind the other, and the model."""

    def __init__(self) -> None:
        self.epochs = Epochs(HELD, *NAMES)
        self.book = founded(emission=EMISSION, sub_pools=POOLS, holdback_ppm=TENTH, cap=10**12)
        self.model = HoldbackModel()
        self.facts: list[Fact] = []
        self.open: list[tuple[str, dict[str, object]]] = []
        self.closes = self.late_in = 0

    @property
    def held(self) -> Any:
        return self.epochs.spec.state.holdback

    def follow(self, *facts: Fact) -> None:
        """Let the treasury follow facts of metering, as they are read back from their bytes."""
        for fact in facts:
            read = catalog().decode_data(fact.TYPE, encode_data(fact))
            spec = self.epochs.spec
            recorded = Recorded(
                "metering", spec.position, "epoch", 1, spec.now_us, f"fact-{len(self.facts)}", None, read
            )
            for command in settle_epochs(Ungated(), recorded):
                self.facts += self.book.when(command, "policy/treasury.settle-epochs")

    def close(self, found: Any) -> None:
        epoch, number = self.epochs.first + self.closes, self.closes
        self.epochs.world.at(self.epochs.start(number + 1))
        pages = [(kind, entries(found, kind)) for kind in KINDS]
        facts: list[Fact] = [
            EpochPaged(epoch, page, nodes, msgspec.UNSET if kind == "gpu" else kind)
            for page, (kind, nodes) in enumerate((kind, nodes) for kind, nodes in pages if nodes)
        ]
        totals = {
            kind: EpochTotals(str(sum(int(one.micro_rgpu_hours) for one in nodes)), "0", "0", "0", len(nodes))
            for kind, nodes in pages
        }
        start, end = self.epochs.start(number), self.epochs.start(number + 1)
        facts.append(EpochClosed(epoch, start, end, "0", len(facts), "00", totals, {}))
        # An hour that was recorded keeps the epoch open for what comes late.
        hour = HeartbeatHourRecorded(node("one"), member("provider"), start // HOUR_MS, "f" * 15, "00", "jws")
        self.epochs.give(node("one"), hour)
        self.epochs.give(f"epoch/{epoch}", *facts)
        self.follow(*facts)
        for row in sorted(found, key=lambda row: node(row[0])):
            if row[3]:
                self.model.score((epoch, row[1], node(row[0])), devices_of(row), late=False)
        self.closes += 1

    def late(self, found: Any, back: int) -> None:
        number = self.closes - 1 - back
        if number < 0:
            return
        epoch = self.epochs.first + number
        self.late_in += 1
        for kind in KINDS:
            if nodes := entries(found, kind):
                again = held_again(self.held, epoch, kind, nodes) or msgspec.UNSET
                total = str(sum(int(one.micro_rgpu_hours) for one in nodes))
                told = msgspec.UNSET if kind == "gpu" else kind
                fact = LateUsageScored(epoch, 10**6 + self.late_in, 0, 1, total, nodes, told, again)
                self.epochs.give(f"epoch/{epoch}", fact)
                self.follow(fact)
        for row in found:
            if row[3]:
                self.model.score((epoch, row[1], node(row[0])), devices_of(row), late=True)

    def challenge(self, name: str, number: int, passed: bool, back: int = 0) -> None:  # noqa: FBT001
        """Record a challenge that ended so many epochs ago."""
        ended = max(0, self.closes - back)
        self.epochs.challenge(name, ended, number, passed=passed)
        self.model.challenge(device(name, number), self.epochs.first + ended, passed=passed)

    def dispute(self, name: str, back: int) -> None:
        epoch = self.epochs.first + self.closes - back
        command = DisputeUsage(node(name), (epoch,), "why", "jws")
        try:
            (fact,) = self.epochs.spec.when(command, member("steward"))
        except Refusal:
            return
        found: dict[str, object] = {"node": node(name), "epoch": epoch, "ruling": ""}
        self.open.append((fact.dispute, found))
        self.model.disputes.append(found)

    def rule(self, ruling: Any) -> None:
        if self.open:
            dispute, found = self.open.pop(0)
            self.epochs.spec.when(EndDispute(dispute, ruling, "jws"), member("judge"))
            self.model.rule(found, ruling)

    def end(self) -> None:
        """Let the clock end what can end; the model says the same."""
        ends = {}
        for fact in self.epochs.end():
            assert isinstance(fact, HoldbackReleased | HoldbackForfeited)
            how = "released" if isinstance(fact, HoldbackReleased) else "forfeited"
            ends |= {(fact.epoch, fact.kind, name): how for name in fact.nodes}
            self.follow(fact)
        assert ends == self.model.end(self.epochs.spec.state.next_live)

    def finish(self) -> None:
        """Serve everything there is, rule on every dispute, and wait."""
        while self.open:
            self.rule("dismissed")
        for _ in range(9):
            self.close([])
        for name in NAMES:
            for number in range(3):
                for _ in range(len(self.held.of_device.get(device(name, number), ()))):
                    self.challenge(name, number, True)  # noqa: FBT003
        self.end()


def played(history: Sequence[tuple[Any, ...]]) -> History:
    found = History()
    for name, *arguments in history:
        getattr(found, name)(*arguments)
        assert thaw(freeze(found.epochs.spec.state), Metering) == found.epochs.spec.state
    found.finish()
    return found


@given(steps)
@settings(max_examples=60, deadline=None)
def test_every_holdback_ends_once_and_as_the_model_says(history: list[tuple[Any, ...]]) -> None:
    found = played(history)
    assert not found.held.held
    assert set(found.model.state.values()) <= {"released", "forfeited"}
    balances = found.book.state.balances
    assert all(amount == 0 for name, amount in balances.items() if name.startswith("holdback/"))
    assert thaw(freeze(found.book.state), Book) == found.book.state


def parts(fact: Fact) -> list[tuple[str, str, int]]:
    """What a fact of the treasury does to rewards: `(what, node, amount)`."""
    if isinstance(fact, RewardsPaid | LateRewardsPaid):
        lost = () if isinstance(fact, RewardsPaid) else fact.forfeited or ()
        paid = zip(fact.nodes, fact.postings, strict=False)
        return [
            *(("paid", name, int(posting.amount)) for name, posting in paid),
            *(("held", one.node, int(one.amount)) for one in fact.held or ()),
            *(("lost", one.node, int(one.amount)) for one in lost),
        ]
    if isinstance(fact, HoldbackPaid | HoldbackForfeitBooked):
        how = "paid" if isinstance(fact, HoldbackPaid) else "lost"
        ended = [(one.node, int(one.amount)) for one in fact.rewards]
        return [*((how, name, amount) for name, amount in ended), *(("held", name, -amount) for name, amount in ended)]
    return []


@given(steps)
@settings(max_examples=60, deadline=None)
def test_every_unit_is_accounted_for_by_kind_and_by_reward(history: list[tuple[Any, ...]]) -> None:
    found = played(history)
    pools: Counter[int] = Counter()
    rewards: Counter[tuple[str, int, str, str]] = Counter()
    for fact in found.facts:
        if isinstance(fact, EpochSettled):
            assert int(fact.paid) + int(fact.late_reserve) + int(fact.kept) == int(fact.pool)
            pools[fact.epoch] += int(fact.pool)
        for what, name, amount in parts(fact):
            rewards[what, fact.epoch, fact.kind or "gpu", name] += amount  # type: ignore[attr-defined]
    assert set(pools.values()) <= {EMISSION}
    assert not any(amount for (what, *_), amount in rewards.items() if what == "held")
    lost = {(epoch, kind, name): amount for (what, epoch, kind, name), amount in rewards.items() if what == "lost"}
    assert found.book.state.balances.get("treasury/forfeits", 0) == sum(lost.values())
    for key, amount in lost.items():
        earned = amount + rewards["paid", key[0], key[1], key[2]]
        assert amount <= earned * TENTH // PPM
        assert found.model.state[key] == "forfeited" or not amount
    total = sum(found.book.state.balances.values())
    assert total == found.book.state.supply.minted == EMISSION * found.closes


happenings = st.lists(st.sampled_from(["close", "end", "passed", "passed", "failed"]), max_size=24)


@given(st.integers(0, 2_000), st.integers(0, 2_000), happenings, happenings)
@settings(max_examples=150, deadline=None)
def test_being_late_never_pays_what_is_held_included(soon: int, late: int, before: list[str], after: list[str]) -> None:
    """Part of an epoch's usage comes late, after challenges went one way or another: no more is paid in the end."""
    ends = []
    for first, second in ((soon + late, 0), (soon, late)):
        found = History()
        found.close([("one", "gpu", {0}, first)])
        for happening in (*before, "late", *after):
            if happening == "late":
                found.late([("one", "gpu", {0}, second)], found.closes - 1)
            elif happening in {"passed", "failed"}:
                found.challenge("one", 0, happening == "passed")
            elif happening == "close":
                found.close([])
            else:
                found.end()
        found.finish()
        ends.append(found.book.state.balances.get(member("provider"), 0))
    in_time, delayed = ends
    assert delayed <= in_time


@given(rows)
@settings(max_examples=60, deadline=None)
def test_a_kind_is_settled_as_a_pool_of_its_own(found: Any) -> None:
    """What a kind pays is what a community of that kind alone would have paid of the same pool."""
    history = History()
    history.close(found)
    for pool in POOLS:
        settled = [one for one in history.facts if isinstance(one, EpochSettled) and (one.kind or "gpu") == pool.kind]
        alone = founded(emission=int(settled[0].pool), rate_cap=int(pool.rate_cap), holdback_ppm=TENTH)
        scores = [ScoredNode(one.node, one.owner, one.micro_rgpu_hours) for one in entries(found, pool.kind)]
        facts = settle(alone, 0, scores)
        (other,) = [one for one in facts if isinstance(one, EpochSettled)]
        assert (other.paid, other.late_reserve, other.kept) == (
            settled[0].paid,
            settled[0].late_reserve,
            settled[0].kept,
        )
        mine = [one for one in history.facts if isinstance(one, RewardsPaid) and (one.kind or "gpu") == pool.kind]
        theirs = [one for one in facts if isinstance(one, RewardsPaid)]
        assert [(one.nodes, one.held) for one in mine] == [(one.nodes, one.held) for one in theirs]
        assert [[p.amount for p in one.postings] for one in mine] == [
            [p.amount for p in one.postings] for one in theirs
        ]
