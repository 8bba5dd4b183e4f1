"""The catalog: which fact types exist, how their bytes become facts, and what an old version means today."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from events.envelope import Fact, decode_envelope, time_us

Upcast = Callable[[Any], Fact]
"""Turns a decoded fact of a retired version into the current one; pure and total."""


class UpgradeNeeded(Exception):
    """A record has a type this software does not know: newer software wrote it. The reader stops."""

    def __init__(self, type_name: str) -> None:
        """Keep the unknown type's name."""
        super().__init__(f"unknown fact type {type_name!r}: upgrade this software before it reads on")
        self.type_name = type_name


class Recorded(msgspec.Struct, frozen=True):
    """A fact with what its record says of it. `time_us` is recorded time, microseconds UTC."""

    service: str
    position: int
    stream: str
    version: int
    time_us: int
    id: str
    actor: str | None
    fact: Fact

    @property
    def time_ms(self) -> int:
        """Recorded time in whole milliseconds, the unit of metering."""
        return self.time_us // 1_000


@dataclass(frozen=True, slots=True)
class Retired:
    """A fact type that is no longer written but must decode for ever."""

    fact: type[Fact]
    upcast: Upcast


class Catalog:
    """All fact types of all services, by published name."""

    def __init__(self, facts: Iterable[type[Fact]], retired: Iterable[Retired] = ()) -> None:
        """Index the types; asserts that names are unique and well-formed."""
        self._decoders: dict[str, msgspec.json.Decoder[Any]] = {}
        self._upcasts: dict[str, Upcast] = {}
        self.facts: dict[str, type[Fact]] = {}
        for fact in facts:
            self._add(fact)
        for old in retired:
            self._add(old.fact)
            self._upcasts[old.fact.TYPE] = old.upcast
        self._last_time = ("", 0)

    def _add(self, fact: type[Fact]) -> None:
        name = fact.TYPE
        service, _, rest = name.partition(".")
        assert service, name
        assert rest.partition(".v")[2].isdigit(), name
        assert name not in self.facts, name
        self.facts[name] = fact
        self._decoders[name] = msgspec.json.Decoder(fact)

    @property
    def upcasts(self) -> Mapping[str, Upcast]:
        """The retired types and what turns them into current ones."""
        return self._upcasts

    def decode_data(self, type_name: str, data: msgspec.Raw | bytes) -> Fact:
        """Return the fact in `data`, upcast to its current version.

        Raises UpgradeNeeded for an unknown type, msgspec.ValidationError for bytes that do not fit.
        """
        decoder = self._decoders.get(type_name)
        if decoder is None:
            raise UpgradeNeeded(type_name)
        fact: Fact = decoder.decode(data)
        upcast = self._upcasts.get(type_name)
        return upcast(fact) if upcast else fact

    def decode(self, record: bytes) -> Recorded:
        """Return the record with its fact; raises like `decode_data`."""
        envelope = decode_envelope(record)
        # Facts of one commit share their time, so the last text is nearly always the next one too.
        text, micros = self._last_time
        if envelope.time != text:
            micros = time_us(envelope.time)
            self._last_time = (envelope.time, micros)
        return Recorded(
            envelope.service,
            int(envelope.position),
            envelope.subject,
            int(envelope.streamversion),
            micros,
            envelope.id,
            envelope.actor,
            self.decode_data(envelope.type, envelope.data),
        )
