"""Epochs as facts, for tests of what is held back: who earned what on which devices, and how challenges went."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from events import registry
from events.envelope import Fact
from events.genesis import MeteringRules
from events.metering import (
    ChallengeResult,
    ChallengeResultsRecorded,
    DeviceScore,
    EpochClosed,
    EpochPaged,
    LateUsageScored,
    NodeScore,
)
from events.registry_terms import DeviceKind, WorkClass
from events.values import identifier
from services.kernel.decider import Emit
from services.metering.commands import DisputeUsage, EndDispute
from services.metering.service import service
from tests.metering_world import HOUR, NOW_MS, World, device, member, node

HELD = MeteringRules(holdback_ppm=100_000)


def score(name: str, devices: Sequence[int] = (0,), micro: int = 1_000, owner: str = "provider") -> NodeScore:
    """A node's entry: so much on these of its devices together."""
    parts = tuple(DeviceScore(device(name, number), "infer", str(HOUR), 10_000, 900_000) for number in devices)
    return NodeScore(node(name), member(owner), str(micro), "0", "0", "0", parts if micro else ())


class Epochs:
    """A community that holds rewards back, with epochs of an hour from number `first` on; facts are given to it."""

    def __init__(self, rules: MeteringRules = HELD, *nodes: str) -> None:
        self.world = World(close_after_seconds=0, epoch_seconds=3_600, rules=rules)
        self.spec = self.world.spec
        self.first = self.spec.state.first_live
        self.count = 0
        for name in ("steward", "judge"):
            self.world.with_member(name)
            self.spec.knowing(Emit(member(name), registry.RoleGranted(member(name), "steward", "jws")))
        for name in nodes or ("one", "two"):
            self.world.with_node(name, 2)

    def start(self, epoch: int) -> int:
        """The first millisecond of the epoch so many after the founding."""
        return self.spec.state.grid.start(self.first + epoch)

    def close(self, epoch: int, *scores: NodeScore, kind: DeviceKind = "gpu") -> Epochs:
        """Close the epoch so many after the founding."""
        number = self.first + epoch
        self.world.at(self.start(epoch + 1))
        told = UNSET if kind == "gpu" else kind
        pages = [EpochPaged(number, 0, tuple(scores), told)] if scores else []
        closed = EpochClosed(number, self.start(epoch), self.start(epoch + 1), "0", len(pages), "00", {}, {})
        self.give(f"epoch/{number}", *pages, closed)
        return self

    def give(self, stream: str, *facts: Fact) -> None:
        self.spec.given(*(Emit(stream, fact) for fact in facts))

    def late(self, epoch: int, *scores: NodeScore, kind: DeviceKind = "gpu") -> Epochs:
        told = UNSET if kind == "gpu" else kind
        total = str(sum(int(one.micro_rgpu_hours) for one in scores))
        late = LateUsageScored(self.first + epoch, self.spec.state.next_live, 0, 1, total, scores, told)
        self.give(f"epoch/{self.first + epoch}", late)
        return self

    def challenge(
        self, name: str, epoch: int, number: int = 0, *, passed: bool = True, work: WorkClass = "infer"
    ) -> Epochs:
        """Record a challenge of a node's device that ended in the middle of an epoch."""
        self.count += 1
        end = self.start(epoch) + HOUR // 2
        result = ChallengeResult(
            identifier("holdback.challenge", str(self.count)),
            device(name, number),
            "T4",
            work,
            "resnet50-offline",
            "00" * 16,
            "11" * 32,
            end - 60_000,
            end,
            "5600" if passed else None,
        )
        fact = ChallengeResultsRecorded(
            node(name), member("provider"), member("steward"), (result,), (passed,), "jws", "jws"
        )
        self.give(node(name), fact)
        return self

    def due(self) -> list[Any]:
        """What the clock would do about holdbacks now."""
        timed = service().due(self.spec.state, NOW_MS)  # before any epoch's end, so none closes
        return [one.command for one in timed]

    def end(self) -> list[Fact]:
        """Let the clock end what can end."""
        return [fact for command in self.due() for fact in self.spec.when(command, "clock")]

    def dispute(self, name: str, *epochs: int, by: str = "steward") -> str:
        numbers = tuple(self.first + epoch for epoch in epochs)
        (fact,) = self.spec.when(DisputeUsage(node(name), numbers, "it was idle", "jws"), member(by))
        return fact.dispute

    def rule(self, dispute: str, ruling: Any, by: str = "judge") -> None:
        self.spec.when(EndDispute(dispute, ruling, "jws"), member(by))
