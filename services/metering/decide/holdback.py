"""Ending what is held back: the clock's commands, one per epoch, once something of it can end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from events.envelope import Fact
from events.metering import HoldbackForfeited, HoldbackReleased
from events.registry_terms import KINDS, DeviceKind
from services.kernel.decider import Context, Decision, Emit
from services.metering.commands import ForfeitHoldback, ReleaseHoldback
from services.metering.dispute_errors import NothingHeld
from services.metering.holdback import HoldKey
from services.metering.state import Metering

PAGE_NODES: Final = 500
"""Nodes a fact names: 20 KiB of ids."""


def release_holdback(command: ReleaseHoldback, state: Metering, _context: Context) -> Decision:
    """Release what an epoch's nodes have earned. Raises NothingHeld where nothing can be released (now)."""
    epoch = command.epoch
    keys = dict(state.holdback.releasable(state.next_live)).get(epoch, [])
    return _decision(epoch, [HoldbackReleased(epoch, kind, nodes) for kind, nodes in _pages(keys)])


def forfeit_holdback(command: ForfeitHoldback, state: Metering, _context: Context) -> Decision:
    """Forfeit what an epoch's nodes have lost, by cause. Raises NothingHeld where nothing is."""
    epoch = command.epoch
    lost = state.holdback.lost().get(epoch, {})
    facts: list[Fact] = []
    for cause in ("failed-challenge", "upheld-dispute"):
        keys = sorted(key for key in lost if lost[key] == cause)
        facts += [HoldbackForfeited(epoch, kind, nodes, cause) for kind, nodes in _pages(keys)]
    return _decision(epoch, facts)


def _pages(keys: Sequence[HoldKey]) -> Iterator[tuple[DeviceKind, tuple[str, ...]]]:
    for kind in KINDS:
        nodes = [node for of, node in keys if of == kind]
        for start in range(0, len(nodes), PAGE_NODES):
            yield kind, tuple(nodes[start : start + PAGE_NODES])


def _decision(epoch: int, facts: Sequence[Fact]) -> Decision:
    if not facts:
        raise NothingHeld("nothing that is held of the epoch can end now", epoch=epoch)
    return Decision([Emit(f"epoch/{epoch}", fact) for fact in facts], {"epoch": epoch, "facts": len(facts)})
