"""Cuts leases into readings and readings into signed batches."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from infra.keys import SigningKey

PAYLOAD_BYTES: Final = 40 * 1024
"""The most a batch's payload may have (METERING)."""

READINGS: Final = 1_000
"""Readings in one batch at most; about what fits in a payload."""

Reading = tuple[int, int, int, int, int]
"""`(device#, lease#, start_ms, end_ms, level)`, the numbers pointing into the batch's tables."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A lease as the system placed it: on which devices, at which share, when (milliseconds)."""

    lease: str
    devices: tuple[str, ...]
    share: int
    start_ms: int
    end_ms: int


@dataclass(frozen=True, slots=True)
class Mess:
    """How a delivery misbehaves: shuffled or not, which part is sent again or re-sliced, by which seed."""

    shuffle: bool = False
    duplicates: float = 0.0
    seed: int = 0


def slices(start_ms: int, end_ms: int, slice_ms: int) -> Iterator[tuple[int, int]]:
    """Yield consecutive intervals of `slice_ms` from a lease's start; the last one may be shorter."""
    for at in range(start_ms, end_ms, slice_ms):
        yield at, min(at + slice_ms, end_ms)


def payloads(node: str, leases: Sequence[Placed], slice_ms: int, mess: Mess) -> list[bytes]:
    """Return the batches of a node's leases as payload bytes, some again and some re-sliced where `mess` says so.

    Deterministic in its arguments, so that a second run sends the same batches.
    """
    chance = random.Random(f"{mess.seed}/{node}")  # noqa: S311 - a test's disorder, no secret
    devices = sorted({device for lease in leases for device in lease.devices})
    device_number = {device: number for number, device in enumerate(devices)}
    tables = (devices, [lease.lease for lease in leases])
    readings = [
        (device_number[device], number, start, end, lease.share)
        for number, lease in enumerate(leases)
        for device in lease.devices
        for start, end in slices(lease.start_ms, lease.end_ms, slice_ms)
    ]
    again = _resliced(readings, mess, chance)
    if mess.shuffle:
        chance.shuffle(readings)
    batches = list(_batches(node, tables, readings, 0))
    repeated = [batch for batch in batches if chance.random() < mess.duplicates]
    batches += _batches(node, tables, again, len(batches))
    batches += repeated
    if mess.shuffle:
        chance.shuffle(batches)
    return batches


def signed(payload: bytes, key: SigningKey) -> str:
    """Return the batch as the node signs it."""
    return key.jws(payload)


def _resliced(readings: Sequence[Reading], mess: Mess, chance: random.Random) -> list[Reading]:
    """Return readings that say the same again in other slices: half of one and half of its neighbour."""
    again = []
    for one, two in itertools.pairwise(readings):
        if one[:2] == two[:2] and one[3] == two[2] and chance.random() < mess.duplicates / 2:
            again.append((one[0], one[1], (one[2] + one[3]) // 2, (two[2] + two[3]) // 2, one[4]))
    return again


def _batches(
    node: str, tables: tuple[list[str], list[str]], readings: Sequence[Reading], first: int
) -> Iterator[bytes]:
    """Yield payloads of at most READINGS readings and PAYLOAD_BYTES, tables cut down to what each one uses."""
    number, at = first, 0
    while at < len(readings):
        count = min(READINGS, len(readings) - at)
        payload = _payload(node, number, tables, readings[at : at + count])
        while len(payload) > PAYLOAD_BYTES:
            count = count * (PAYLOAD_BYTES - 256) // len(payload)
            payload = _payload(node, number, tables, readings[at : at + count])
        yield payload
        number, at = number + 1, at + count


def _payload(node: str, number: int, tables: tuple[list[str], list[str]], readings: Sequence[Reading]) -> bytes:
    devices, leases = _used(readings, 0), _used(readings, 1)
    return msgspec.json.encode(
        {
            "node": node,
            "number": number,
            "devices": [tables[0][old] for old in devices],
            "leases": [tables[1][old] for old in leases],
            "readings": [(devices[d], leases[n], start, end, level) for d, n, start, end, level in readings],
        }
    )


def _used(readings: Sequence[Reading], column: int) -> dict[int, int]:
    """Return the table entries these readings point to, old number to new, in order of first use."""
    return {old: new for new, old in enumerate(dict.fromkeys(reading[column] for reading in readings))}
