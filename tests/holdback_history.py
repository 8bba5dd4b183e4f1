"""A history of holdback in metering and the treasury together, one behind the other, beside a naive model of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

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
from events.treasury import HoldbackForfeitBooked, HoldbackPaid, LateRewardsPaid, RewardsPaid
from events.values import HOUR_MS
from infra.gate import Ungated
from services.kernel.errors import Refusal
from services.metering.commands import DisputeUsage, EndDispute
from services.metering.holdback import held_again
from services.treasury.policies import settle_epochs
from tests.holdback_world import HELD, Epochs
from tests.metering_world import device, member, node
from tests.model import HoldbackModel
from tests.treasury_given import founded

NAMES = ("one", "two", "three")
OWNERS = {"one": "provider", "two": "provider", "three": "other-provider"}
KINDS: tuple[DeviceKind, ...] = ("gpu", "cpu")
POOLS = (SubPool("cpu", 299_999, "3000000"), SubPool("gpu", 700_001, "40000000"))
EMISSION = 100_003
TENTH = 100_000
CORES = 2
"""The number of a node's device of kind cpu; 0 and 1 are its GPUs."""


def devices_of(row: tuple[str, str, set[int], int]) -> list[str]:
    """A node has two GPUs; its cores are one device."""
    name, kind, numbers, _ = row
    return [device(name, number) for number in sorted(numbers)] if kind == "gpu" else [device(name, CORES)]


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

    def __init__(self, emission: int = EMISSION, *, stays_open: bool = True) -> None:
        self.epochs = Epochs(HELD, *NAMES)
        self.book = founded(emission=emission, sub_pools=POOLS, holdback_ppm=TENTH, cap=10**12)
        self.model = HoldbackModel()
        self.facts: list[Fact] = []
        self.open: list[tuple[str, dict[str, object]]] = []
        self.closes = self.late_in = 0
        self.stays_open = stays_open

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
        if self.stays_open:
            # An hour that was recorded keeps the epoch open for what comes late.
            hour = HeartbeatHourRecorded(node("one"), member("provider"), start // HOUR_MS, "f" * 15, "00", "jws")
            self.epochs.give(node("one"), hour)
        self.epochs.give(f"epoch/{epoch}", *facts)
        self.follow(*facts)
        for row in sorted(found, key=lambda row: node(row[0])):
            if row[3]:
                self.model.score((epoch, row[1], node(row[0])), devices_of(row))
        self.closes += 1

    def late(self, found: Any, back: int) -> None:
        number = self.closes - 1 - back
        epoch = self.epochs.first + number
        if number < 0 or epoch < self.epochs.spec.state.first_kept:
            return
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
                self.model.score((epoch, row[1], node(row[0])), devices_of(row))

    def challenge(self, name: str, number: int, passed: bool, back: int = 0) -> None:  # noqa: FBT001
        """Record a challenge that ended so many epochs ago."""
        self.challenge_in(max(0, self.closes - back), name, number, passed=passed)

    def challenge_in(self, ended: int, name: str, number: int, *, passed: bool = True) -> None:
        """Record a challenge that ended in an epoch."""
        kind: DeviceKind = "cpu" if number == CORES else "gpu"
        self.epochs.challenge(name, ended, number, passed=passed, work="cpu" if kind == "cpu" else "infer")
        self.model.challenge(device(name, number), (self.epochs.first + ended, kind, node(name)), passed=passed)

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
            found["ruling"] = ruling

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
                for place in self.held.of_device.get(device(name, number), ()):
                    self.challenge_in(place[0] - self.epochs.first, name, number)
        self.end()


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
