"""One byte string: a fact as the CloudEvents 1.0 object that is stored, sent, put in the tile and hashed.

The bytes are made once. `draft` encodes everything the decider knows; `seal` adds stream version, time and position
under the store's lock; readers hash first and parse after. `encode(decode(record)) == record` for every record.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final, Literal

import msgspec

MAX_RECORD_BYTES: Final = 65_535
"""A record fits in a tile's 16-bit length prefix (VERIFIABILITY)."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Fact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Something that was decided. Subclasses name their published type in `TYPE` and never change afterwards."""

    TYPE: ClassVar[str] = ""


class Draft(msgspec.Struct, frozen=True, omit_defaults=True):
    """The attributes known before the lock, in the order of the bytes; absent ones are left out."""

    id: str
    source: str
    type: str
    subject: str
    data: msgspec.Raw
    actor: str | None = None
    commandid: str | None = None
    causationid: str | None = None
    correlationid: str | None = None


class Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A record, parsed. `data` keeps its bytes until the catalog decodes them."""

    specversion: Literal["1.0"]
    id: str
    source: str
    type: str
    subject: str
    datacontenttype: Literal["application/json"]
    data: msgspec.Raw
    streamversion: str
    time: str
    position: str
    actor: str | None = None
    commandid: str | None = None
    causationid: str | None = None
    correlationid: str | None = None

    @property
    def service(self) -> str:
        """The service that decided this, the last part of `source`."""
        return self.source.rpartition("/")[2]


_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Envelope)
_OPTIONAL: Final = ("actor", "commandid", "causationid", "correlationid")


def fact_id(outcome_key: bytes, index: int) -> str:
    """Return the UUIDv8 (RFC 9562) of SHA-256(outcome key, index): appending twice is appending once."""
    digest = hashlib.sha256(outcome_key + index.to_bytes(8, "big")).digest()
    value = int.from_bytes(digest[:16], "big")
    value = value & ~(0xF << 76) | 0x8 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def open_record(draft: Draft) -> bytes:
    """Return the first part of the record's bytes, up to and including `data`; `seal` ends it."""
    encode = _ENCODER.encode
    parts = [
        b'{"specversion":"1.0","id":',
        encode(draft.id),
        b',"source":',
        encode(draft.source),
        b',"type":',
        encode(draft.type),
        b',"subject":',
        encode(draft.subject),
        b',"datacontenttype":"application/json"',
    ]
    for name in _OPTIONAL:
        value = getattr(draft, name)
        if value is not None:
            parts.append(b',"%s":%s' % (name.encode(), encode(value)))
    parts.append(b',"data":')
    parts.append(bytes(draft.data))
    return b"".join(parts)


def seal_record(opened: bytes, version: int, time: str, position: int) -> bytes:
    """Return the whole record: `opened` with stream version, time and position at its end."""
    return b'%s,"streamversion":"%d","time":"%s","position":"%d"}' % (opened, version, time.encode(), position)


def decode_envelope(record: bytes) -> Envelope:
    """Parse a record. Raises msgspec.ValidationError or msgspec.DecodeError when it is not one of ours."""
    return _DECODER.decode(record)


def encode_envelope(envelope: Envelope) -> bytes:
    """Return the bytes of a parsed record; equal to what was parsed, or the record was not made by us."""
    draft = Draft(
        envelope.id,
        envelope.source,
        envelope.type,
        envelope.subject,
        envelope.data,
        *(getattr(envelope, name) for name in _OPTIONAL),
    )
    return seal_record(open_record(draft), int(envelope.streamversion), envelope.time, int(envelope.position))


def encode_data(fact: msgspec.Struct) -> msgspec.Raw:
    """Return a fact's `data` bytes."""
    return msgspec.Raw(_ENCODER.encode(fact))


def time_text(time_us: int) -> str:
    """Return microseconds since 1970 as RFC 3339 in UTC with six decimals."""
    return (_EPOCH + timedelta(microseconds=time_us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def time_us(text: str) -> int:
    """Return the microseconds since 1970 of an RFC 3339 text; raises ValueError when it is none."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(microseconds=1)
