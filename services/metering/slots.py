"""The slots of a device: one for every live epoch, which a passed challenge takes (docs/decisions/0010).

A pass takes the slot of the epoch in which it ended or, where another pass has taken that one, the nearest earlier free
slot. So which slots are taken follows from the passes alone, in whatever order they were recorded.
"""

from __future__ import annotations

Slots = tuple[tuple[int, int], ...]
"""The taken ones as sorted runs `(first, last)` with free slots between them: a pass in every epoch is one run."""


def is_taken(taken: Slots, epoch: int) -> bool:
    """Tell whether a pass has taken the slot of an epoch."""
    return any(first <= epoch <= last for first, last in taken)


def free_slot(taken: Slots, epoch: int) -> int:
    """Return the slot that a pass takes which ended in an epoch; it may lie before any that still matters."""
    return next((first - 1 for first, last in taken if first <= epoch <= last), epoch)


def with_slot(taken: Slots, slot: int) -> Slots:
    """Return the slots with a free one taken."""
    touching = [run for run in taken if run[0] - 1 <= slot <= run[1] + 1]
    run = min((slot, *(first for first, _ in touching))), max((slot, *(last for _, last in touching)))
    return tuple(sorted((*(other for other in taken if other not in touching), run)))


def since(taken: Slots, epoch: int) -> Slots:
    """Return the slots without those before an epoch."""
    return tuple((max(first, epoch), last) for first, last in taken if last >= epoch)
