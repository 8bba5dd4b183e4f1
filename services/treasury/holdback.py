"""What is held back of rewards, by epoch, kind and node, until metering says that it was earned (METERING "Holdback").

Amounts are base units. What comes late is held as if all of it had come in time: of everything a node earned in an
epoch and kind, `holdback_ppm` rounded down once. So no slicing of evidence changes what waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from immutables import Map

from events.registry_terms import DeviceKind
from events.treasury import NodeReward, Posting
from events.values import PPM

HoldKey = tuple[DeviceKind, str]
"""(kind, node id): what is held and ends together in an epoch."""


@dataclass(frozen=True, slots=True)
class Hold:
    """A node's holdback: what it `earned`, what of that was ever withheld, and what of it waits on the account now.

    `ended` tells where late pay goes: `released`, it is paid whole; `forfeited`, the held part is the community's.
    """

    owner: str = ""
    earned: int = 0
    withheld: int = 0
    waiting: int = 0
    ended: Literal["", "released", "forfeited"] = ""


Holds = Map[HoldKey, Hold]


@dataclass(frozen=True, slots=True)
class Parts:
    """A reward divided: what its owner gets now, what waits, what is forfeited already. They sum to it."""

    paid: int
    held: int = 0
    forfeited: int = 0


def divided(hold: Hold | None, amount: int, holdback_ppm: int) -> Parts:
    """Divide a reward that comes on top of what a hold knows."""
    known = hold or Hold()
    if known.ended == "released" or not holdback_ppm:
        return Parts(amount)
    part = (known.earned + amount) * holdback_ppm // PPM - known.withheld
    return Parts(amount - part, 0, part) if known.ended else Parts(amount - part, part)


def with_rewards(
    holds: Holds,
    kind: DeviceKind,
    paid: Iterable[tuple[str, Posting]],
    held: Sequence[NodeReward],
    forfeited: Sequence[NodeReward],
) -> Holds:
    """Return the holds after a page of rewards: `paid` names each node with its own posting."""
    draft = holds.mutate()
    whole = [(node, posting.credit, int(posting.amount), 0, 0) for node, posting in paid]
    whole += [(one.node, one.owner, int(one.amount), int(one.amount), int(one.amount)) for one in held]
    whole += [(one.node, one.owner, int(one.amount), int(one.amount), 0) for one in forfeited]
    for node, owner, amount, withheld, waiting in whole:
        hold = draft.get((kind, node), Hold())
        if hold.ended != "released":  # after that nothing is withheld any more
            earned = hold.earned + amount, hold.withheld + withheld, hold.waiting + waiting
            draft[kind, node] = Hold(owner, *earned, hold.ended)
    return draft.finish()


def with_end(
    holds: Holds, kind: DeviceKind, nodes: Iterable[str], ended: Literal["released", "forfeited"], *, keep: bool
) -> Holds:
    """Return the holds after these nodes' ended; `keep` remembers those of which nothing was held, for late pay."""
    draft = holds.mutate()
    for node in nodes:
        hold = draft.get((kind, node))
        if hold is not None or keep:
            draft[kind, node] = replace(hold or Hold(), waiting=0, ended=ended)
    return draft.finish()


def held_again(holds: Holds, kind: DeviceKind, nodes: Iterable[str]) -> Holds:
    """Return the holds after these nodes' began anew: what is late is held, what was released stays so."""
    draft = holds.mutate()
    for node in nodes:
        hold = draft.get((kind, node))
        if hold is not None and hold.ended == "released":
            draft[kind, node] = replace(hold, ended="")
    return draft.finish()


def is_open(holds: Holds) -> bool:
    """Tell whether any hold of an epoch has not ended."""
    return any(not hold.ended for hold in holds.values())
