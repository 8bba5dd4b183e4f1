"""What is held back of rewards until it was earned: which epochs of which nodes, and which challenges speak for them.

A node's holdback of an epoch and kind is released when 7 later live epochs have closed, every device that earned in it
has one passed challenge for it, and no open dispute names it (METERING "Holdback"; docs/decisions/0010). A passed
challenge serves the oldest held epoch of its device that had begun when it ended, once; a failed one forfeits the
oldest such epoch. Where none is held yet, a challenge waits for one, so that readings which come late meet it all the
same. Amounts are the treasury's; nothing here is kept where the rules hold nothing back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

from immutables import Map

from events.metering import NodeScore
from events.registry_terms import DeviceKind

V = TypeVar("V")

LATER_EPOCHS: Final = 7
"""So many later live epochs have to close before an epoch's holdback is released."""

TRIALS_KEPT: Final = 64
"""Challenges of a device, of each outcome, that wait for an epoch to be held; newer ones serve all that older do."""

HoldKey = tuple[DeviceKind, str]
"""(kind, node id)."""

Cause = Literal["", "failed-challenge", "upheld-dispute"]


@dataclass(frozen=True, slots=True)
class Hold:
    """A node's holdback of one epoch and kind: the devices that earned it, and those no challenge has served yet.

    `cause` says why it is forfeited, as soon as it is so.
    """

    devices: tuple[str, ...]
    unserved: tuple[str, ...]
    cause: Cause = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Challenges of a device that found nothing held: the newest epoch each of them may speak for, sorted.

    `failed_through` is the newest such epoch of any failed one, used or not: what comes late is forfeited by it.
    """

    passed: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    failed_through: int = -1


@dataclass(frozen=True, slots=True)
class Dispute:
    """What is disputed; kept after its ruling while anything it names is held or may still be."""

    node: str
    epochs: tuple[int, ...]
    by: str
    ruling: Literal["", "upheld", "dismissed"] = ""


@dataclass(frozen=True, slots=True)
class Holdback:
    """All that is held, by epoch, and what may end it."""

    held: Map[int, Map[HoldKey, Hold]] = Map()
    of_device: Map[str, tuple[tuple[int, DeviceKind, str], ...]] = Map()
    """Device to the holds it earned a part of, `(epoch, kind, node)`, oldest first."""
    challenges: Map[str, Waiting] = Map()
    disputes: Map[str, Dispute] = Map()
    served: Map[int, frozenset[HoldKey]] = Map()
    """Holds whose devices all have their challenge."""
    lost: Map[int, frozenset[HoldKey]] = Map()
    """Holds with a cause to be forfeited."""
    ended: Map[int, Map[HoldKey, tuple[str, ...] | None]] = Map()
    """What has ended while late usage may still come: the devices it covered, None where it was forfeited."""
    ends: Map[int, int] = Map()
    """How many facts have ended holds of an epoch: it makes each command of the clock one of its own."""

    def open_disputes(self) -> frozenset[tuple[str, int]]:
        """Return the (node, epoch) that open disputes name."""
        return frozenset(
            (dispute.node, epoch)
            for dispute in self.disputes.values()
            if not dispute.ruling
            for epoch in dispute.epochs
        )

    def releasable(self, next_live: int) -> Iterator[tuple[int, list[HoldKey]]]:
        """Yield the epochs, oldest first, with the holds that may be released now, sorted."""
        disputed = self.open_disputes()
        for epoch in sorted(self.served):
            if epoch + LATER_EPOCHS < next_live:
                keys = sorted(key for key in self.served[epoch] if (key[1], epoch) not in disputed)
                if keys:
                    yield epoch, keys


def earned(node: NodeScore) -> tuple[str, ...]:
    """Return the devices that earned a part of a node's score, sorted; none where it comes to 0."""
    if int(node.micro_rgpu_hours) <= 0:
        return ()
    devices = {
        one.device
        for one in node.devices
        if int(one.share_milli_ms) > 0 and one.performance_factor > 0 and one.reliability_ppm > 0
    }
    return tuple(sorted(devices))


def held_again(known: Holdback, epoch: int, kind: DeviceKind, nodes: Iterable[NodeScore]) -> tuple[str, ...]:
    """Return the nodes whose holdback was released but did not cover all the devices that are late."""
    ended = known.ended.get(epoch, Map())
    found = []
    for node in nodes:
        covered = ended.get((kind, node.node))
        if covered is not None and not set(earned(node)) <= set(covered):
            found.append(node.node)
    return tuple(found)


class Draft:
    """A holdback that is being changed; `done` makes a state of it again. One per fact."""

    def __init__(self, known: Holdback) -> None:
        """Begin with the state as it is."""
        self.known = known
        self.held: dict[int, dict[HoldKey, Hold | None]] = {}
        self.of_device = known.of_device.mutate()
        self.challenges = known.challenges.mutate()

    def hold(self, epoch: int, key: HoldKey) -> Hold | None:
        """Return a hold as it stands, None where there is none."""
        changed = self.held.get(epoch, {})
        return changed[key] if key in changed else self.known.held.get(epoch, Map[HoldKey, Hold]()).get(key)

    def put(self, epoch: int, key: HoldKey, hold: Hold | None) -> None:
        """Set a hold, or take it away."""
        self.held.setdefault(epoch, {})[key] = hold

    def done(self) -> Holdback:
        """Return the state, its two lists of what may end brought up to date."""
        held, served, lost = self.known.held, self.known.served, self.known.lost
        for epoch, changed in self.held.items():
            holds = held.get(epoch, Map()).mutate()
            ready, gone = set(served.get(epoch, ())), set(lost.get(epoch, ()))
            for key, hold in changed.items():
                ready.discard(key)
                gone.discard(key)
                if hold is None:
                    holds.pop(key, None)
                    continue
                holds[key] = hold
                if hold.cause:
                    gone.add(key)
                elif not hold.unserved:
                    ready.add(key)
            held = put(held, epoch, holds.finish())
            served, lost = put(served, epoch, frozenset(ready)), put(lost, epoch, frozenset(gone))
        return replace(
            self.known,
            held=held,
            served=served,
            lost=lost,
            of_device=self.of_device.finish(),
            challenges=self.challenges.finish(),
        )


def put(of: Map[int, V], epoch: int, value: V) -> Map[int, V]:
    """Return the map with an epoch's part, without it where that is empty."""
    if value:
        return of.set(epoch, value)
    return of.delete(epoch) if epoch in of else of
