"""What the kinds of resource have in common, and where they differ.

Levels are thousandths of a kind's unit (see `events.metering`), so one constant makes unit-hours of all of them. A
node has many GPUs, each whole at 1000, and one device at most of every other kind, whose whole is what it states.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from events.genesis import scored_kinds
from events.metering import Lease
from events.registry_terms import KINDS, DeviceKind, WorkClass
from services.metering.batches import MAX_LEVEL
from services.metering.state import LeaseState, Metering

WHOLE_DEVICE: Final = 1_000
"""The level of one whole GPU."""

CHARGES: Final[Mapping[DeviceKind, int]] = {
    "gpu": 36_000_000,
    "cpu": 3_600_000,
    "storage": 3_600_000,
    "bandwidth": 1_000_000,
}
"""Level x ms, divided by this, are what a quota is counted in: for GPUs (with PF x 10,000) micro reference-GPU-hours,
then milli-core-hours, MB-hours, and MB."""


def scored(state: Metering) -> tuple[DeviceKind, ...]:
    """Return the kinds that have a sub-pool; the others are recorded and shown."""
    assert state.rules is not None
    return scored_kinds(state.rules.rules)


def kind_of(work_class: WorkClass) -> DeviceKind:
    """Return the kind of the devices that a class of work runs on."""
    return next((kind for kind in KINDS if kind == work_class), "gpu")


def names_devices(state: Metering, kind: DeviceKind) -> bool:
    """Tell whether leases of a kind are of devices: processors only hold capacity where nothing names sub-pools."""
    assert state.rules is not None
    return kind != "cpu" or bool(state.rules.rules.sub_pools)


def whole_of(lease: Lease) -> int:
    """Return the level of the whole of each device of a lease."""
    return lease.whole or WHOLE_DEVICE


def most_level(lease: Lease) -> int:
    """Return the highest level a reading of a lease may have: the whole device, or its cores where it names none."""
    return min(whole_of(lease), MAX_LEVEL) if lease.devices else lease.share


def is_metered(lease: LeaseState, device: str) -> bool:
    """Tell whether readings of a device are those of a lease; one that only holds capacity names none."""
    return any(leased.device == device for leased in lease.fact.devices)
