"""A signed batch of readings: the form of its payload, its identity, and its readings merged into runs.

The payload is at most 40 KiB of JSON: `{"node","number","devices":[ids],"leases":[ids],
"readings":[[device#,lease#,start_ms,end_ms,level],...]}`, optionally `"side"`, `"energy":[[start_ms,end_ms,
micro_kwh,meter],...]`, and for a late batch `"spool","hour","part","parts"` (docs/spool.md). Everything that depends
on the payload alone is worked out here, once: the reader is a pure function with a small memory, because a batch is
read at the edge, decided and folded within moments.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

import msgspec

from events.metering import RejectionCode
from events.spool import spool_line
from services.kernel.errors import MalformedRequest, TooLarge

MAX_PAYLOAD_BYTES: Final = 40 * 1024
MAX_READING_MS: Final = 300_000
MAX_LEVEL: Final = 1_000_000
"""In milli-cores a thousand cores; a device that is leased by its share has at most 1,000 (see the rules)."""

MAX_PARTS: Final = 16
"""Late batches that one hour's spool may come in: some 16,000 readings."""

MAX_ENERGY_READINGS: Final = 500

EnergyReading = tuple[int, int, int, str]
"""Start, end (milliseconds UTC), micro-kWh between them, which meter it was (rapl:package-0, nvml:0)."""

Reading = tuple[int, int, int, int, int]
"""Device number, lease number, start, end (milliseconds UTC), level (milli, or milli-cores)."""


class BatchPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node signs. A late batch is one part of an hour's spool, whose final hash (hex) is `spool`."""

    node: str
    number: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    devices: list[str]
    leases: list[str]
    readings: Annotated[list[Reading], msgspec.Meta(min_length=1)]
    spool: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")] | msgspec.UnsetType = msgspec.UNSET
    hour: Annotated[int, msgspec.Meta(ge=0, lt=2**31)] | msgspec.UnsetType = msgspec.UNSET
    part: Annotated[int, msgspec.Meta(ge=0, lt=MAX_PARTS)] | msgspec.UnsetType = msgspec.UNSET
    parts: Annotated[int, msgspec.Meta(ge=1, le=MAX_PARTS)] | msgspec.UnsetType = msgspec.UNSET
    side: Literal["provider"] | msgspec.UnsetType = msgspec.UNSET
    energy: Annotated[list[EnergyReading], msgspec.Meta(max_length=MAX_ENERGY_READINGS)] | msgspec.UnsetType = (
        msgspec.UNSET
    )


@dataclass(frozen=True, slots=True)
class LateOf:
    """Whose part a late batch is: the hour (since 1970), its number, out of how many, and the spool's hash (hex)."""

    hour: int
    part: int
    parts: int
    spool_sha256: str


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch as far as it can be known without any state.

    `runs` are its well-formed readings sorted by device, lease and start, equal neighbours joined; `malformed` maps
    a code to the indexes of the others.
    """

    node: str
    batch: str
    number: int
    devices: tuple[str, ...]
    leases: tuple[str, ...]
    count: int
    runs: Sequence[Reading]
    malformed: Mapping[RejectionCode, tuple[int, ...]]
    late_of: LateOf | None
    energy: tuple[EnergyReading, ...]


_DECODER: Final = msgspec.json.Decoder(BatchPayload)


def payload_bytes(jws: str) -> bytes:
    """Return the payload of a compact JWS whose form was checked at the edge."""
    text = jws.split(".", 2)[1]
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def read_payload(payload: bytes) -> BatchPayload:
    """Parse a payload strictly. Raises TooLarge over 40 KiB, MalformedRequest for another form or a key given twice."""
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise TooLarge(f"a batch has at most {MAX_PAYLOAD_BYTES} bytes", limit=MAX_PAYLOAD_BYTES, size=len(payload))
    try:
        parsed = _DECODER.decode(payload)
    except msgspec.MsgspecError as error:
        raise MalformedRequest(f"the batch does not parse: {error}") from error
    # No string of ours needs an escape, so quotes count strings: a key given twice, which the parser would
    # silently let win, shows as quotes too many.
    late = [name for name in ("spool", "hour", "part", "parts") if getattr(parsed, name) is not msgspec.UNSET]
    if len(late) not in {0, 4} or (late and parsed.part >= parsed.parts):  # type: ignore[operator] # all are set
        raise MalformedRequest("a late batch has spool, hour, part and parts, and part is less than parts")
    # A late batch has four keys more and one text.
    energy = 0 if parsed.energy is msgspec.UNSET else 1 + len(parsed.energy)  # its key, and each one's meter
    strings = (
        6 + 2 * (parsed.side is not msgspec.UNSET) + 5 * bool(late) + energy + len(parsed.devices) + len(parsed.leases)
    )
    if b"\\" in payload or payload.count(b'"') != 2 * strings:
        raise MalformedRequest("the batch gives a key twice or escapes a string")
    return parsed


@lru_cache(maxsize=64)
def read_batch(jws: str) -> Batch:
    """Return the batch in a compact JWS (its signature is checked at the edge). Raises like `read_payload`."""
    payload = payload_bytes(jws)
    parsed = read_payload(payload)
    readings = parsed.readings
    malformed: dict[RejectionCode, tuple[int, ...]] = {}
    devices, leases = len(parsed.devices), len(parsed.leases)
    ordered = sorted(readings)
    runs = joined(ordered) if _well_formed(ordered, devices, leases) else None
    if runs is None:
        malformed = _grouped((i, form_code(reading, devices, leases)) for i, reading in enumerate(readings))
        runs = joined(reading for reading in ordered if form_code(reading, devices, leases) is None)
    return Batch(
        parsed.node,
        hashlib.sha256(payload).hexdigest(),
        parsed.number,
        tuple(parsed.devices),
        tuple(parsed.leases),
        len(readings),
        runs,
        malformed,
        _late_of(parsed),
        () if parsed.energy is msgspec.UNSET else tuple(parsed.energy),
    )


def _late_of(parsed: BatchPayload) -> LateOf | None:
    values = (parsed.hour, parsed.part, parsed.parts, parsed.spool)
    return None if parsed.spool is msgspec.UNSET else LateOf(*values)  # type: ignore[arg-type] # all or none are set


def readings_of(jws: str) -> Sequence[Reading]:
    """Return the readings of a batch as they stand in it, for the paths that need their indexes."""
    return _DECODER.decode(payload_bytes(jws)).readings


def spool_lines(jws: str) -> Iterable[bytes]:
    """Yield the readings of a batch as lines of its node's spool, in the batch's order; malformed ones as they are."""
    parsed = _DECODER.decode(payload_bytes(jws))
    devices, leases = parsed.devices, parsed.leases
    for device, lease, start, end, level in parsed.readings:
        if 0 <= device < len(devices) and 0 <= lease < len(leases):
            yield spool_line(devices[device], leases[lease], start, end, level)


def runs_without(jws: str, left_out: AbstractSet[int]) -> Sequence[Reading]:
    """Return the runs of a batch's readings but for those at the indexes `left_out`."""
    return joined(sorted(reading for i, reading in enumerate(readings_of(jws)) if i not in left_out))


def form_code(reading: Reading, devices: int, leases: int) -> RejectionCode | None:
    """Return what is wrong with a reading whatever the state, or None."""
    device, lease, start, end, level = reading
    if not 0 <= device < devices:
        return "unknown-device"
    if not 0 <= lease < leases:
        return "unknown-lease"
    if end <= start or start < 0:
        return "empty-interval"
    if end - start > MAX_READING_MS:
        return "too-long"
    if not 0 <= level <= MAX_LEVEL:
        return "level-out-of-range"
    return None


def joined(readings: Iterable[Reading]) -> Sequence[Reading]:
    """Return sorted readings with neighbours of equal device, lease and level that touch or overlap as one."""
    runs: list[Reading] = []
    device = lease = start = end = level = -1
    for reading in readings:
        if reading[2] <= end and reading[4] == level and reading[1] == lease and reading[0] == device:
            end = max(end, reading[3])
            continue
        if level >= 0:
            runs.append((device, lease, start, end, level))
        device, lease, start, end, level = reading
    if level >= 0:
        runs.append((device, lease, start, end, level))
    return runs


def _well_formed(ordered: Sequence[Reading], devices: int, leases: int) -> bool:
    """Tell whether no reading of a sorted batch is malformed; a plain loop, because every batch passes here."""
    if ordered[0][0] < 0 or ordered[-1][0] >= devices:
        return False
    for _, lease, start, end, level in ordered:
        if not (0 <= start < end <= start + MAX_READING_MS and 0 <= level <= MAX_LEVEL and 0 <= lease < leases):
            return False
    return True


def _grouped(codes: Iterable[tuple[int, RejectionCode | None]]) -> dict[RejectionCode, tuple[int, ...]]:
    found: dict[RejectionCode, tuple[int, ...]] = {}
    for index, code in codes:
        if code is not None:
            found[code] = (*found.get(code, ()), index)
    return found


def batch_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a batch's payload, as published."""
    return msgspec.json.schema(BatchPayload)
