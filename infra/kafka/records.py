"""What stands in a topic: facts, byte for byte as in the store, and watermarks between them.

A fact's key is its stream, its value the record bytes, its timestamp the recorded time. A watermark has no key; it
says that its partition holds everything up to a position. Foreign consumers tell them apart by `content-type`.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any, Final

import msgspec
from eventsourcing.persistence import Notification

from events.envelope import time_us
from events.telemetry import TRACEPARENT, read_traceparent, record_headers

FACT: Final = b"application/cloudevents+json"
WATERMARK: Final = b"application/vnd.compute-commons.watermark+json"
_CONTENT: Final = ("content-type", FACT)
_TIME: Final = b'"time":"'

Headers = list[tuple[str, bytes]]

_new: Final = object.__new__


class _Mark(msgspec.Struct, frozen=True):
    position: str
    sha256: str


class Came(msgspec.Struct, frozen=True, gc=False):
    """One record as it came: a fact's notification, or the hash a watermark names.

    `previous` is the position of the fact before it in its partition (0: the first), `traceparent` the span a fact was
    made in, where somebody traces.
    """

    position: int
    previous: int
    fact: Notification | None
    mark: bytes = b""
    traceparent: str = ""

    @property
    def record_hash(self) -> bytes:
        """SHA-256 of the service's record at `position`."""
        return self.mark if self.fact is None else hashlib.sha256(self.fact.state).digest()


def fact_headers(record: Notification, previous: int, traceparent: str = "") -> Headers:
    """Return the headers of a fact: enough to route and to order it without looking into its bytes."""
    return [
        _CONTENT,
        ("position", b"%d" % record.id),
        ("previous", b"%d" % previous),
        ("type", record.topic.encode()),
        ("streamversion", b"%d" % record.originator_version),
        *record_headers(traceparent),
    ]


def watermark(position: int, record_hash: bytes, previous: int) -> tuple[bytes, Headers]:
    """Return value and headers of a watermark: the partition holds everything up to `position`."""
    value = msgspec.json.encode(_Mark(str(position), record_hash.hex()))
    return value, [("content-type", WATERMARK), ("position", b"%d" % position), ("previous", b"%d" % previous)]


def read(record: Any) -> Came:
    """Return what a consumer record says."""
    headers = dict(record.headers)
    position, previous = int(headers["position"]), int(headers["previous"])
    if headers["content-type"] == WATERMARK:
        return Came(position, previous, None, bytes.fromhex(msgspec.json.decode(record.value, type=_Mark).sha256))
    fact = _new(Notification)  # its constructor costs three times this; see infra.postgres.rows
    fields = fact.__dict__
    fields["originator_id"] = record.key.decode()
    fields["originator_version"] = int(headers["streamversion"])
    fields["topic"] = headers["type"].decode()
    fields["state"] = record.value
    fields["id"] = position
    traced = headers.get(TRACEPARENT)
    return Came(position, previous, fact, b"", read_traceparent(traced.decode("ascii", "replace")) if traced else "")


def recorded_ms(record: bytes) -> int:
    """Return the recorded time of a record's bytes in whole milliseconds; it stands near their end."""
    start = record.rindex(_TIME) + len(_TIME)
    return _milliseconds(record[start : record.index(b'"', start)])


@lru_cache(maxsize=256)
def _milliseconds(text: bytes) -> int:
    """Facts of one commit share their time, so most texts come again."""
    return time_us(text.decode()) // 1_000
