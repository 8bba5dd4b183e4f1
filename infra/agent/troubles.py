"""What is wrong at the moment, in sentences for people: said once when it begins, and once when it is over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Troubles:
    """Troubles by subject (`spool`, `clock`, `server` ...); `say` hears of changes only."""

    say: Callable[[str], None]
    now: dict[str, str] = field(default_factory=dict)

    def set(self, subject: str, sentence: str | None) -> None:
        """State what is wrong with a subject, or None when nothing is."""
        before = self.now.get(subject)
        if sentence is None:
            if before is not None:
                del self.now[subject]
                self.say(f"{subject}: well again")
            return
        self.now[subject] = sentence
        if before is None or before[:40] != sentence[:40]:
            self.say(f"{subject}: {sentence}")
