"""Whether this machine's clock can be trusted: compared with the server's `Date`, and with its own monotonic clock.

`Date` is coarse and an answer takes time, so an observation gives an interval in which the truth lies;
only what lies outside any doubt counts as drift. Over 5 s nothing is metered and no readings are signed: pay is for
time, and a wrong clock would sign for another one. The monotonic clock shows steps and suspensions between answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LIMIT_MS: Final = 5_000
DATE_STEP_MS: Final = 1_999
"""`Date` has whole seconds, and servers make it once a second."""


def offset_ms(sent_ms: int, received_ms: int, date_ms: int) -> int:
    """Return by how much the server is ahead of us at least (below 0: behind); 0 when the clocks may agree."""
    least, most = date_ms - received_ms, date_ms + DATE_STEP_MS - sent_ms
    return max(0, least) + min(0, most)


@dataclass(slots=True)
class Drift:
    """What is known of this machine's clock. Until a first answer it is trusted: an agent may start offline."""

    offset_ms: int = 0
    anchor_ms: int | None = None
    stepped: bool = False

    def observe(self, sent_ms: int, received_ms: int, date_ms: int, monotonic_ms: int) -> None:
        """Take the server's word; a step seen before is settled by it."""
        self.offset_ms = offset_ms(sent_ms, received_ms, date_ms)
        self.anchor_ms, self.stepped = received_ms - monotonic_ms, False

    def look(self, now_ms: int, monotonic_ms: int) -> None:
        """Notice a step of the clock, or a suspension, since the last look."""
        anchor = now_ms - monotonic_ms
        if self.anchor_ms is not None and abs(anchor - self.anchor_ms) > LIMIT_MS:
            self.stepped = True
        if not self.stepped:
            self.anchor_ms = anchor

    @property
    def trusted(self) -> bool:
        """Tell whether readings may be cut and signed by this clock."""
        return not self.stepped and abs(self.offset_ms) <= LIMIT_MS

    @property
    def warning(self) -> str | None:
        """Say what is wrong with the clock and what to do."""
        if abs(self.offset_ms) > LIMIT_MS:
            where = "behind" if self.offset_ms > 0 else "ahead of"
            return (
                f"this machine's clock is {abs(self.offset_ms) / 1_000:.1f} s {where} the server's: nothing is metered "
                "and no readings are signed until it is set right (run an NTP client)"
            )
        if self.stepped:
            return "this machine's clock was set or it was asleep: nothing is metered until the server has answered"
        return None
