"""The last versions of recently used streams, believed only as of the position the store has seen."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from eventsourcing.persistence import Notification

LIMIT: Final = 200_000
"""Streams remembered; about 40 MB when full."""


class StreamVersions:
    """A bounded least-recently-used map from stream to last version.

    It is exact for the streams it holds while everything up to `position` has passed through `learn`; when positions
    were skipped it forgets all.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        """Begin empty, at position 0."""
        self.position = 0
        self._limit = limit
        self._last: OrderedDict[str, int] = OrderedDict()

    def skip_to(self, position: int) -> None:
        """Forget everything: facts up to `position` went by unseen."""
        self._last.clear()
        self.position = position

    def news(self, facts: Sequence[Notification]) -> None:
        """Take in facts that continue (or repeat) what was seen so far."""
        if facts and facts[-1].id > self.position:
            self.learn({str(fact.originator_id): fact.originator_version for fact in facts}, facts[-1].id)

    def learn(self, versions: Mapping[str, int], position: int) -> None:
        """Remember the last versions of streams as of `position`."""
        self.position = position
        last = self._last
        last.update(versions)
        for stream in versions:
            last.move_to_end(stream)
        while len(last) > self._limit:
            last.popitem(last=False)

    def among(self, streams: Iterable[str]) -> dict[str, int]:
        """Return the last versions of those streams that are remembered."""
        last = self._last
        return {stream: last[stream] for stream in streams if stream in last}
