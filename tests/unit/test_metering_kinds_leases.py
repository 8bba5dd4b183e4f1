"""Leases and readings of every kind of resource: placed on its device, charged in its unit, within its whole."""

from __future__ import annotations

from typing import Any

import pytest

from events.genesis import MeteringRules
from events.metering import (
    Content,
)
from events.registry_terms import KINDS, DeviceKind
from services.kernel.errors import InvalidField
from services.metering.commands import CancelLease
from services.metering.errors import NoNodeSuits, NoReadingStands, Oversubscribed, QuotaExhausted
from tests.kinds_world import (
    DEVICES,
    MODELS,
    NODE,
    WHOLE,
    consume,
    kinds_world,
    lease,
    pools,
    slots,
    with_all,
)
from tests.metering_world import HOUR, MINUTE, NOW_MS, World, member

OTHERS: tuple[DeviceKind, ...] = ("cpu", "storage", "bandwidth")
END = NOW_MS + 2 * HOUR


@pytest.mark.parametrize("kind", OTHERS)
def test_a_lease_names_the_node_s_device_of_its_kind_and_its_whole(kind: DeviceKind) -> None:
    found = lease(kinds_world(), kind, "a", NOW_MS, END, 1_000)
    assert [(one.device, one.model) for one in found.devices] == [(DEVICES[kind], MODELS[kind])]
    assert (found.work_class, found.whole, found.kind) == (kind, WHOLE[kind], kind)


@pytest.mark.parametrize(
    ("kind", "share", "charged"),
    [
        ("cpu", 1_500, 1_500 * 2),  # milli-core-hours
        ("storage", 700, 700 * 2),  # MB-hours
        ("bandwidth", 125, 125 * 7_200 // 1_000),  # MB: kB/s x s / 1,000
    ],
)
def test_a_quota_pays_in_the_unit_of_its_kind(kind: DeviceKind, share: int, charged: int) -> None:
    world = kinds_world()
    before = world.spec.state.projects["project"].left[kind]
    assert lease(world, kind, "a", NOW_MS, END, share).charged == str(charged)
    assert world.spec.state.projects["project"].left[kind] == before - charged


@pytest.mark.parametrize("kind", OTHERS)
def test_a_charge_is_rounded_up_and_what_a_cancel_returns_down(kind: DeviceKind) -> None:
    world = kinds_world()
    found = lease(world, kind, "a", NOW_MS, NOW_MS + 100_001, 1)
    assert found.charged == "1"
    world.at(NOW_MS + 1)
    fact = world.spec.when(CancelLease(found.lease, "jws"), member("consumer"))[0]
    assert fact.refunded == "0"


def test_a_quota_that_does_not_cover_the_lease_refuses_it() -> None:
    world = World(rules=MeteringRules(sub_pools=pools("gpu", "bandwidth")), more_quota={"bandwidth_mb": "899"})
    with_all(world)
    with pytest.raises(QuotaExhausted):
        lease(world, "bandwidth", "a", NOW_MS, END, 125)
    with pytest.raises(QuotaExhausted):
        lease(world, "storage", "a", NOW_MS, END, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_capacity_of_no_kind_is_promised_twice(kind: DeviceKind) -> None:
    world = kinds_world()
    half = WHOLE[kind] // 2
    lease(world, kind, "a", NOW_MS, END, half)
    lease(world, kind, "b", NOW_MS + HOUR, END, WHOLE[kind] - half)
    with pytest.raises(Oversubscribed):
        lease(world, kind, "c", NOW_MS, END, 1)
    lease(world, kind, "d", NOW_MS, NOW_MS + HOUR, WHOLE[kind] - half)
    for other in KINDS:
        if other != kind:
            lease(world, other, f"{other} besides", NOW_MS, END, WHOLE[other])


def test_a_node_without_the_device_of_a_kind_is_not_leased_for_it() -> None:
    world = World(rules=MeteringRules(sub_pools=pools(*KINDS)), more_quota={"bandwidth_mb": "9999"}).with_node("plain")
    for kind in ("cpu", "bandwidth"):
        with pytest.raises(NoNodeSuits):
            lease(world, kind, "a", NOW_MS, END, 1)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "storage", "content": None},
        {"kind": "storage", "share": 99},
        {"kind": "storage", "content": Content("AB" * 32, 10**8)},
        {"kind": "storage", "content": Content("ab" * 32, 0)},
        {"kind": "cpu", "content": Content("ab" * 32, 10**8)},
        {"kind": "cpu", "devices": 1},
        {"kind": "bandwidth", "models": ("line",)},
        {"kind": "cpu", "share": 1_000_001},
    ],
)
def test_terms_that_do_not_suit_their_kind_are_refused(change: dict[str, Any]) -> None:
    fields = {"kind": "storage", "share": 100} | change
    if fields["kind"] == "storage":
        fields.setdefault("content", Content("ab" * 32, 10**8))
    with pytest.raises(InvalidField):
        lease(kinds_world(), fields.pop("kind"), "a", NOW_MS, END, fields.pop("share"), **fields)


def test_a_share_of_storage_is_its_content_rounded_up_to_mb() -> None:
    content = Content("ab" * 32, 100_000_001)
    assert lease(kinds_world(), "storage", "a", NOW_MS, END, 101, content=content).content == content


# --- readings


@pytest.mark.parametrize("kind", OTHERS)
def test_readings_of_a_kind_are_of_its_device_and_reach_the_whole_of_it(kind: DeviceKind) -> None:
    world = kinds_world()
    lease(world, kind, "a", NOW_MS, END, 1_000)
    world.at(NOW_MS + 10 * MINUTE)
    other = KINDS[(KINDS.index(kind) + 1) % 4]
    elsewhere = (DEVICES[other], *slots(kind, "a", 1_000)[0][1:])
    fact = world.record(NODE, *slots(kind, "a", WHOLE[kind], 0, 1), *slots(kind, "a", WHOLE[kind] + 1, 1, 1), elsewhere)
    assert fact.rejected == {"device-not-leased": (2,), "level-out-of-range": (1,)}


def test_consumer_readings_of_a_kind_reach_the_whole_of_its_device() -> None:
    world = kinds_world()
    lease(world, "bandwidth", "a", NOW_MS, END, 1_000)
    world.at(NOW_MS + HOUR)
    consume(world, slots("bandwidth", "a", WHOLE["bandwidth"], 0, 1))
    with pytest.raises(NoReadingStands):
        consume(world, slots("bandwidth", "a", WHOLE["bandwidth"] + 1, 0, 1), 1)
