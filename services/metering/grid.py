"""The grid of epochs: number n covers `[zero + n x length, zero + (n + 1) x length)`, milliseconds UTC."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from events.values import DAY_MS


@dataclass(frozen=True, slots=True)
class Grid:
    """Where epochs begin and end; fixed for ever by genesis."""

    zero_ms: int = 0
    length_ms: int = DAY_MS

    def epoch_of(self, time_ms: int) -> int:
        """Return the epoch that holds an instant."""
        return (time_ms - self.zero_ms) // self.length_ms

    def start(self, epoch: int) -> int:
        """Return an epoch's first millisecond."""
        return self.zero_ms + epoch * self.length_ms

    def end(self, epoch: int) -> int:
        """Return the first millisecond after an epoch."""
        return self.zero_ms + (epoch + 1) * self.length_ms

    @property
    def tick_ms(self) -> int:
        """The largest step that divides both an epoch and a day: ages at epoch starts are exact on ticks of it."""
        return gcd(self.length_ms, DAY_MS)

    def tick_of(self, time_ms: int) -> int:
        """Return the first tick at or after an instant; a trial of that tick counts from an epoch start there on."""
        return -((self.zero_ms - time_ms) // self.tick_ms)

    def tick_of_epoch(self, epoch: int) -> int:
        """Return the tick of an epoch's start."""
        return epoch * self.length_ms // self.tick_ms
