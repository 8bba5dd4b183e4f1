"""The release gate of a community without an anchor: nothing waits, and every payout says so."""

from __future__ import annotations

from typing import Literal


class Ungated:
    """Answers `ungated` always."""

    def answer(self, service: str, position: int) -> Literal["ungated"]:
        """Let the fact through."""
        del service, position
        return "ungated"
