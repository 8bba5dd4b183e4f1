"""What is held back of rewards until it was earned: which devices earned what is held, and how challenges of them went.

A node's holdback of an epoch and kind is released when 7 later live epochs have closed, every device that earned in it
has its slot of that epoch taken by a passed challenge, and no open dispute names it. It is forfeited once a challenge
of one of the node's devices of that kind failed in that epoch, or a dispute that names it was upheld (METERING
"Holdback"; docs/decisions/0010). Slots and failures are kept whether or not anything is held there, so what comes late
meets them as if it had come in time. Amounts are the treasury's; nothing is kept where the rules hold nothing back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from immutables import Map

from events.metering import NodeScore
from events.registry_terms import KINDS, DeviceKind
from services.metering.slots import Slots, is_taken

LATER_EPOCHS: Final = 7
"""So many later live epochs have to close before an epoch's holdback is released."""

HoldKey = tuple[DeviceKind, str]
"""(kind, node id)."""

Devices = tuple[str, ...]
"""Device ids, sorted."""

Cause = Literal["failed-challenge", "upheld-dispute"]


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

    held: Map[int, Map[HoldKey, Devices]] = Map()
    """What is held, with the devices that earned it."""
    served: Map[int, Map[HoldKey, Devices]] = Map()
    """That part of it whose devices all have their slot taken."""
    of_device: Map[str, tuple[tuple[int, DeviceKind, str], ...]] = Map()
    """Device to the holds it earned a part of, `(epoch, kind, node)`, oldest first."""
    slots: Map[str, Slots] = Map()
    """Device to the slots that passed challenges have taken."""
    failed: Map[int, frozenset[HoldKey]] = Map()
    """Epoch to the kinds and nodes of which a challenge failed that ended in it."""
    disputes: Map[str, Dispute] = Map()
    ended: Map[int, Map[HoldKey, Devices | None]] = Map()
    """What has ended while late usage may still come: the devices it covered, None where it was forfeited."""
    ends: Map[int, int] = Map()
    """How many facts have ended holds of an epoch: it makes each command of the clock one of its own."""

    def disputed(self, ruling: Literal["", "upheld"]) -> frozenset[tuple[int, str]]:
        """Return the (epoch, node) that disputes of this ruling name; those without one are open."""
        return frozenset(
            (epoch, one.node) for one in self.disputes.values() if one.ruling == ruling for epoch in one.epochs
        )

    def lost(self) -> Mapping[int, Mapping[HoldKey, Cause]]:
        """Return what is held and has to be forfeited, by epoch, with why."""
        found: dict[int, dict[HoldKey, Cause]] = {}
        for epoch, node in self.disputed("upheld"):
            for kind in KINDS:
                if (kind, node) in self.held.get(epoch, ()):
                    found.setdefault(epoch, {})[kind, node] = "upheld-dispute"
        for epoch, keys in self.failed.items():
            for key in keys.intersection(self.held.get(epoch, ())):
                found.setdefault(epoch, {})[key] = "failed-challenge"
        return found

    def releasable(self, next_live: int) -> Iterator[tuple[int, list[HoldKey]]]:
        """Yield the epochs, oldest first, with the holds that may be released now, sorted."""
        stopped, lost = self.disputed(""), self.lost()
        for epoch in sorted(epoch for epoch in self.served if epoch + LATER_EPOCHS < next_live):
            gone = lost.get(epoch, ())
            keys = sorted(key for key in self.served[epoch] if (epoch, key[1]) not in stopped and key not in gone)
            if keys:
                yield epoch, keys

    def is_served(self, epoch: int, devices: Iterable[str]) -> bool:
        """Tell whether a pass has taken every device's slot of an epoch."""
        return all(is_taken(self.slots.get(device, ()), epoch) for device in devices)


def earned(node: NodeScore) -> Devices:
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
