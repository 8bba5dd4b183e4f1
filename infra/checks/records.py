"""Every record once: dense positions and versions, time, bytes that survive a round trip, known types."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from events.catalog import UpgradeNeeded
from events.envelope import Fact, decode_envelope, encode_envelope, time_us
from events.store import PAGE, Store
from infra.checks.check import Check, listed
from infra.checks.settled import SettledEpochs
from infra.platform import Platform

Tell = Callable[[str, int, int], None]

_FIX = "restore a backup of before, and keep this one: what was changed was changed outside this software"


async def records(platform: Platform, name: str, store: Store, tell: Tell) -> AsyncIterator[Check]:
    """Read every record of a service; for the treasury, count what every epoch paid."""
    faults, epochs = _Faults(), SettledEpochs()
    head = (await store.head()).position
    position = 0
    while page := await store.read(position, PAGE):
        for notification in page:
            fact = faults.look(platform, name, notification, position)
            if fact is not None:
                epochs.look(fact)
            position = notification.id
        tell(f"records of {name}", position, head)
    if faults.found:
        yield Check(f"records of {name}", "broken", "; ".join(faults.found[:5]), _FIX)
    else:
        yield Check(f"records of {name}", "ok", f"{position:,} facts, dense, in order, byte for byte")
    if name == "treasury":
        yield epochs.check()


class _Faults:
    def __init__(self) -> None:
        self.found: list[str] = []
        self._versions: dict[str, int] = {}
        self._time = 0

    def look(self, platform: Platform, service: str, notification: Any, before: int) -> Fact | None:
        at, raw = notification.id, notification.state
        try:
            envelope = decode_envelope(raw)
        except msgspec.MsgspecError as error:
            self.found.append(f"position {at}: no record can be read there ({error})")
            return None
        rules = {
            "a hole before it": at == before + 1,
            "its bytes do not survive a round trip": encode_envelope(envelope) == raw,
            "its position is another": envelope.position == str(at),
            "it names another service": envelope.service == service,
            "a version is missing": int(envelope.streamversion) == self._versions.get(envelope.subject, 0) + 1,
            "time went back": time_us(envelope.time) >= self._time,
        }
        fact: Fact | None = None
        try:
            fact = platform.catalog.decode_data(envelope.type, envelope.data)
        except (UpgradeNeeded, msgspec.MsgspecError) as error:
            self.found.append(f"position {at}: {error}")
        self.found += [f"position {at}: {rule}" for rule, holds in rules.items() if not holds]
        self._versions[envelope.subject] = int(envelope.streamversion)
        self._time = time_us(envelope.time)
        return fact


async def outcomes(platform: Platform, name: str, store: Store) -> Check:
    """Every permanent answer points to facts that are there."""
    head = (await store.head()).position
    query = (
        f"SELECT encode(key, 'hex') FROM \"{name}\".outcomes "  # noqa: S608 - a name of ours
        "WHERE last > $1 OR first > last OR first < 0 OR (first = 0) <> (last = 0) LIMIT 6"
    )
    lost = [row[0][:16] for row in await platform.readers.fetch(query, head)]
    if lost:
        return Check(f"answers of {name}", "broken", f"no such facts for the outcomes {listed(lost)}", _FIX)
    count = await platform.readers.fetchval(f'SELECT count(*) FROM "{name}".outcomes')  # noqa: S608 - a name of ours
    return Check(f"answers of {name}", "ok", f"{count:,} outcomes, each of facts that are there")
