"""The consumer's side of a lease: its own signed readings, and what counts where both sides have to agree.

From one governed date on counted share = min(lease share, provider, consumer). What the consumer withholds for a day
counts at the provider's level when a challenge of the device passed inside the lease, else nothing: a dispute.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Final, Literal

import msgspec

from events.envelope import time_us
from events.metering import RejectionCode
from events.values import DAY_MS
from services.kernel.errors import MalformedRequest, TooLarge
from services.metering import steps
from services.metering.batches import MAX_PAYLOAD_BYTES, Reading, payload_bytes
from services.metering.folding import recorded
from services.metering.state import LeaseState, Metering

WITHHELD_MS: Final = DAY_MS
"""Consumer readings that end earlier than this ago count nothing: by then they were withheld."""


class ConsumerPayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a project's owner signs about leases of its project; readings as in a node's batch."""

    project: str
    number: Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
    devices: list[str]
    leases: list[str]
    readings: Annotated[list[Reading], msgspec.Meta(min_length=1)]
    side: Literal["consumer"]


@dataclass(frozen=True, slots=True)
class ConsumerBatch:
    """A consumer's batch as far as it can be known without any state."""

    project: str
    batch: str
    number: int
    devices: tuple[str, ...]
    leases: tuple[str, ...]
    readings: Sequence[Reading]


_DECODER: Final = msgspec.json.Decoder(ConsumerPayload)
_TEXTS: Final = 8
"""Texts of a payload without devices and leases: six keys, the project and the side."""


@lru_cache(maxsize=64)
def read_consumer_batch(jws: str) -> ConsumerBatch:
    """Return the batch in a compact JWS. Raises TooLarge, MalformedRequest for another form or a key given twice."""
    payload = payload_bytes(jws)
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise TooLarge(f"a batch has at most {MAX_PAYLOAD_BYTES} bytes", limit=MAX_PAYLOAD_BYTES, size=len(payload))
    try:
        parsed = _DECODER.decode(payload)
    except msgspec.MsgspecError as error:
        raise MalformedRequest(f"the batch does not parse: {error}") from error
    strings = _TEXTS + len(parsed.devices) + len(parsed.leases)
    if b"\\" in payload or payload.count(b'"') != 2 * strings:
        raise MalformedRequest("the batch gives a key twice or escapes a string")
    return ConsumerBatch(
        parsed.project,
        hashlib.sha256(payload).hexdigest(),
        parsed.number,
        tuple(parsed.devices),
        tuple(parsed.leases),
        tuple(parsed.readings),
    )


def is_mandatory(state: Metering, lease: LeaseState) -> bool:
    """Tell whether a lease needs its consumer's readings: all live ones that start from the governed date on do.

    One of bandwidth always does: nothing but the payee would vouch for what was sent.
    """
    assert state.rules is not None
    if lease.fact.kind == "bandwidth":
        return True
    since = state.rules.rules.consumer_readings_from
    return since is not None and lease.fact.backfill is None and lease.fact.start_ms >= time_us(since) // 1_000


def earning(
    state: Metering, epoch: int, device: str, lease: LeaseState, provider: steps.Points[int]
) -> steps.Points[int]:
    """Return the levels of a lease on a device that may earn, before the share of the lease bounds them."""
    if not is_mandatory(state, lease):
        return provider
    alone = lease.fact.kind != "bandwidth" and _challenge_passed(state, device, lease)
    return steps.agreed(provider, _consumers(state, epoch, device, lease), alone=alone)


def unless_withheld(
    state: Metering, epoch: int, device: str, lease: LeaseState, provider: steps.Points[int]
) -> steps.Points[int]:
    """Return the levels that might earn if the provider's stood wherever the consumer gave no reading."""
    return steps.agreed(provider, _consumers(state, epoch, device, lease), alone=True)


def _consumers(state: Metering, epoch: int, device: str, lease: LeaseState) -> steps.Points[int]:
    return steps.before(recorded(state.consumed, epoch, (device, lease.fact.lease)), lease.end_ms)


def _challenge_passed(state: Metering, device: str, lease: LeaseState) -> bool:
    start, end = lease.fact.start_ms, lease.end_ms
    dates = [result.end_ms for result in state.results.get(device, ()) if result.passed]
    dates += [proof.end_ms for proof in state.proofs.get(lease.fact.lease, ()) if proof.passed]
    return any(start <= date <= end for date in dates)


def interval_code(lease: LeaseState, reading: Reading, now_ms: int, ahead_ms: int) -> RejectionCode | None:
    """Return what is wrong with a consumer's reading in its lease, or None."""
    start, end = reading[2], reading[3]
    if not lease.fact.start_ms <= start < end <= lease.end_ms:
        return "outside-lease"
    if end > now_ms + ahead_ms:
        return "in-the-future"
    return "too-old" if end < now_ms - WITHHELD_MS else None
