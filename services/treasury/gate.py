"""The release gate port: whether rewards may be paid on a fact now, and what their facts say about it."""

from __future__ import annotations

from typing import Protocol

from events.treasury import GateAnswer


class ReleaseGate(Protocol):
    """Asked once before rewards are decided; its answer is recorded in `EpochSettled` and `LateRewardsPaid`."""

    def answer(self, service: str, position: int) -> GateAnswer | None:
        """Tell whether the fact at `position` of `service` lies under a finalised anchor.

        `anchored`: it does. `ungated`: there is no anchor to wait for. None: wait; the policy asks again later, and
        what comes after that fact waits with it. Must not block.
        """
        ...
