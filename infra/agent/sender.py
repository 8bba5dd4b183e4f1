"""Sends what is in the spool and not yet acknowledged, in signed batches, each written down before it goes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from events.values import HOUR_MS
from infra.agent.batches import ENERGY, LINES, late_payload, payload
from infra.agent.cursor import Cursor, Pending
from infra.agent.energy import EnergyReading
from infra.agent.link import Link
from infra.agent.spool import Reading, Spool, SpoolAltered, read_line
from infra.agent.troubles import Troubles
from infra.keys import SigningKey

BATCHES: Final = 32
"""Batches in one request."""

LATE_AFTER_MS: Final = HOUR_MS - 120_000
"""A reading this long over is no longer sent by itself: it would be recorded late and count nothing."""

MOST_PARTS: Final = 16
FEW_LINES: Final = 200
"""A batch with no more readings has room for energy readings."""

WAITS: Final = frozenset({"authentication-failed", "permission-denied", "unknown-node", "unavailable", "disk-full"})
"""Rejections of a batch that may end by themselves: it is sent again later."""

_LOG: Final = logging.getLogger(__name__)


class Sender:
    """Brings one node's spool to the server. What it knows lies in the cursor; it can be killed at any moment."""

    def __init__(
        self, spool: Spool, cursor: Cursor, path: Path, key: SigningKey, link: Link, troubles: Troubles
    ) -> None:
        """Take the spool, the cursor and where it is kept, the node's key, and the way to the server."""
        self._spool = spool
        self._cursor = cursor
        self._path = path
        self._key = key
        self._link = link
        self._troubles = troubles

    async def send(self, now_ms: int) -> int:
        """Send one request's worth; return how many batches the server has answered for. Raises Away, LinkRefused.

        Raises OSError when the cursor cannot be kept: then nothing is sent, so that a crash cannot make it go twice
        under two names.
        """
        if not self._cursor.pending:
            self._cursor.pending = self._planned(now_ms)
            if not self._cursor.pending:
                return 0
            self._keep()
        signed = [(batch, self._signed(batch)) for batch in self._cursor.pending]
        going = [(batch, jws) for batch, jws in signed if jws is not None]
        answers = await self._link.readings([jws for _, jws in going]) if going else []
        answered = 0
        for (batch, _), answer in zip(going, answers, strict=True):
            if not self._take(batch, answer):
                break
            answered += 1
        left = [batch for batch, _ in going[answered:]]
        self._cursor.pending = [batch for batch in left if not self._cursor.hour(batch.hour).altered]
        self._keep()
        return answered

    def unacknowledged(self) -> int:
        """Return how many lines the server has not acknowledged yet."""
        return sum(
            max(0, self._spool.head(hour).lines - self._cursor.hour(hour).acknowledged)
            for hour in self._spool.hours()
            if not self._cursor.hour(hour).altered
        )

    def _planned(self, now_ms: int) -> list[Pending]:
        """Return the next batches, oldest hour first."""
        found: list[Pending] = []
        for hour in self._spool.hours():
            state = self._cursor.hour(hour)
            lines = self._spool.head(hour).lines
            if state.altered or state.acknowledged >= lines:
                continue
            if not state.late and self._is_late(hour, state.acknowledged, now_ms):
                state.late = True
            if state.late:
                whole = self._whole(hour, lines) if state.told else []  # only then can it count, and it grows no more
                if len(found) + len(whole) > BATCHES:
                    break  # an hour's parts go together
                found += whole
                continue
            for first in range(state.acknowledged, lines, LINES):
                found.append(Pending(0, hour, first, min(first + LINES, lines)))
        numbered = []
        for place, each in enumerate(found[:BATCHES]):
            energy: tuple[EnergyReading, ...] = ()
            if not each.parts and each.last - each.first <= FEW_LINES:
                energy, self._cursor.energy = tuple(self._cursor.energy[:ENERGY]), self._cursor.energy[ENERGY:]
            numbered.append(msgspec.structs.replace(each, number=self._cursor.next_number + place, energy=energy))
        self._cursor.next_number += len(numbered)
        return numbered

    def _is_late(self, hour: int, line: int, now_ms: int) -> bool:
        """Tell whether an hour's next line is too old to go by itself; only past hours can be."""
        if now_ms // HOUR_MS == hour:
            return False
        try:
            return now_ms - read_line(self._spool.lines(hour)[line])[3] > LATE_AFTER_MS
        except SpoolAltered:
            return False

    def _whole(self, hour: int, lines: int) -> list[Pending]:
        """Return a whole hour in as many parts as it takes; what was acknowledged of it goes again."""
        parts = -(-lines // LINES)
        if parts > MOST_PARTS:
            _LOG.warning("the hour %s has %s lines, more than a late hour may bring", hour, lines)
        return [
            Pending(0, hour, part * LINES, min((part + 1) * LINES, lines), part, parts)
            for part in range(min(parts, MOST_PARTS))
        ]

    def _signed(self, batch: Pending) -> str | None:
        """Return the batch as a JWS; None where the spool is not what was written, and that hour is given up."""
        state, known = self._cursor.hour(batch.hour), self._spool.head(batch.hour)
        # The whole hour is read again: what is signed is what was written, or nothing.
        there = self._spool.head_after(batch.hour, known.lines)
        if state.altered or there.sha256 != (state.sealed or known.sha256):
            self._troubles.set(f"spool of hour {batch.hour}", "altered since it was written; it is not sent")
            state.altered = True
            return None
        lines = self._spool.lines(batch.hour)[batch.first : batch.last]
        try:
            readings: list[Reading] = [read_line(line) for line in lines]
        except SpoolAltered as error:
            self._troubles.set(f"spool of hour {batch.hour}", f"altered; it is not sent: {error}")
            state.altered = True
            return None
        if batch.parts:
            assert state.sealed is not None, batch
            sealed, node = state.sealed, self._key.node
            raw = late_payload(node, batch.number, readings, batch.hour, sealed, batch.part, batch.parts)
        else:
            raw = payload(self._key.node, batch.number, readings, batch.energy)
        return self._key.jws(raw)

    def _take(self, batch: Pending, answer: Mapping[str, Any]) -> bool:
        """Note an answer; False when this batch has to go again."""
        state = self._cursor.hour(batch.hour)
        if answer["status"] == "rejected":
            if answer.get("code") in WAITS:
                self._troubles.set("readings", f"the server does not take readings now: {answer.get('detail')}")
                return False
            _LOG.info("batch %s was refused for good: %s", batch.number, dict(answer))
            self._cursor.energy = [*batch.energy, *self._cursor.energy]
            self._troubles.set("readings", f"refused for good: {answer.get('code')}: {answer.get('detail')}")
        elif answer.get("rejected"):
            _LOG.info("readings of batch %s were rejected: %s", batch.number, answer["rejected"])
            self._troubles.set("readings", f"some were rejected: {', '.join(answer['rejected'])}")
        else:
            self._troubles.set("readings", None)
        if answer.get("late") and not batch.parts:
            state.late = True  # it arrived too late after all: the whole hour goes again
            return True
        if not batch.parts or batch.part == batch.parts - 1:
            state.acknowledged = max(state.acknowledged, batch.last)
        return True

    def _keep(self) -> None:
        self._cursor.save(self._path)
