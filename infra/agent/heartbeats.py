"""Heartbeats: one a minute, answered with a signed receipt that is kept; after each hour a word on all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from events.spool import minutes_text
from events.values import HOUR_MS
from infra.agent.cursor import Cursor
from infra.agent.disk import append
from infra.agent.link import Link, LinkRefused
from infra.agent.spool import Spool
from infra.agent.troubles import Troubles
from infra.keys import SigningKey

MINUTE_MS: Final = 60_000
MINUTES: Final = 60
KEPT_HOURS: Final = 35 * 24


class Receipt(msgspec.Struct, frozen=True):
    """A heartbeat that was answered: its unix minute and the server's compact JWS."""

    minute: int
    receipt: str


class Heartbeats:
    """Sends heartbeats of one node and keeps their receipts, one file per hour."""

    def __init__(self, folder: Path, key: SigningKey, genesis: str, link: Link, troubles: Troubles) -> None:
        """Use the folder, made where it is missing."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._key = key
        self._genesis = genesis
        self._link = link
        self._troubles = troubles
        self._minutes: dict[int, set[int]] = {}
        self.last_minute: int | None = None

    async def beat(self, now_ms: int, spool: Spool) -> bool:
        """Send this minute's heartbeat unless it was answered already; tell whether one was. Raises Away, LinkRefused.

        A receipt that finds no room on the disk is counted all the same: the server has the heartbeat.
        """
        minute = now_ms // MINUTE_MS
        hour = minute // MINUTES
        if minute in self.answered(hour):
            return False
        receipt = Receipt(minute, await self._link.heartbeat(minute, spool.head(hour).sha256))
        self.answered(hour).add(minute)
        self.last_minute = minute
        try:
            append(self._path(hour), msgspec.json.encode(receipt) + b"\n")
        except OSError as error:
            self._troubles.set("receipts", f"a heartbeat's receipt could not be kept: {error.strerror}")
        else:
            self._troubles.set("receipts", None)
        return True

    async def tell(self, hour: int, cursor: Cursor) -> None:
        """Commit to an hour's heartbeats and to its sealed spool. Raises Away.

        A refusal is final: the hour came too late, or another commitment stands. Its late readings will not count.
        """
        state = cursor.hour(hour)
        assert state.sealed is not None, hour
        minutes = sum(1 << minute % MINUTES for minute in self.answered(hour))
        payload = {
            "node": self._key.node,
            "hour": hour,
            "minutes": minutes_text(minutes),
            "spool_sha256": state.sealed,
            "genesis": self._genesis,
        }
        try:
            await self._link.tell_hour(self._key.jws(msgspec.json.encode(payload)))
        except LinkRefused as error:
            if error.status in {401, 403, 404}:
                raise
            self._troubles.set("hours", f"the hour {hour} was not taken: {error}")
        else:
            self._troubles.set("hours", None)
        state.told = True

    def answered(self, hour: int) -> set[int]:
        """Return the unix minutes of an hour whose heartbeats were answered."""
        known = self._minutes.get(hour)
        if known is None:
            path = self._path(hour)
            lines = path.read_bytes().splitlines() if path.exists() else []
            known = self._minutes[hour] = {found.minute for found in map(_receipt, lines) if found is not None}
        return known

    def hours(self) -> set[int]:
        """Return the hours that had a heartbeat."""
        return {int(path.stem) for path in self._folder.glob("*.jsonl")} | {h for h, m in self._minutes.items() if m}

    def forget_old(self, now_ms: int) -> None:
        """Delete the receipts of hours that nothing can be claimed for any more."""
        for path in self._folder.glob("*.jsonl"):
            if int(path.stem) < now_ms // HOUR_MS - KEPT_HOURS:
                path.unlink(missing_ok=True)
                self._minutes.pop(int(path.stem), None)

    def _path(self, hour: int) -> Path:
        return self._folder / f"{hour}.jsonl"


def _receipt(line: bytes) -> Receipt | None:
    """Return a receipt; None for a line that a crash cut off."""
    try:
        return msgspec.json.decode(line, type=Receipt)
    except msgspec.MsgspecError:
        return None
