"""A community that names no sub-pools writes byte for byte what the last release wrote."""

from __future__ import annotations

import hashlib
from typing import Any

from events import registry
from events.envelope import Fact, encode_data
from services.kernel.decider import Emit
from services.metering.commands import CancelLease
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, World, device, key_of, lease_id, member, node

LAST_RELEASE = "ed16b3ad67dd360db26e0853da90c16b4bb11e12e01b094a95eb2bcf2bd9b605"
"""SHA-256 over the data of all facts of the story below, one per line, as the last release's metering wrote them."""

NODE = "one"
START = NOW_MS + 2 * HOUR


def founded() -> tuple[World, list[Fact]]:
    """A node with two GPUs and processors; what its community's metering writes from here on."""
    world = World(close_after_seconds=0)
    written: list[Fact] = []
    when = world.spec.when

    def watched(*given: Any, **more: Any) -> Any:
        found = when(*given, **more)
        written.extend(found)
        return found

    world.spec.when = watched  # type: ignore[method-assign]
    devices = (
        registry.Device(device(NODE, 0), "gpu", "T4", 1_000, 16_384),
        registry.Device(device(NODE, 1), "gpu", "A10", 1_000, 16_384),
        registry.Device(device(NODE, 9), "cpu", "x86", 8_000),
    )
    terms = (8_000, 65_536, registry.Window(), 1, True, "jws")
    fact = registry.NodeRegistered(node(NODE), member("provider"), key_of(NODE), "DE", devices, *terms)
    world.spec.knowing(Emit(node(NODE), fact), Emit(node(NODE), registry.NodeActivated(node(NODE))))
    return world, written


def test_a_story_of_gpus_and_cores_has_the_bytes_it_had() -> None:
    world, written = founded()
    world.results(NODE, 0, "T4", ["5600", "5700", "5500"], NOW_MS - MINUTE)
    both = world.lease("a", START, NOW_MS + 25 * HOUR, 600, 2)
    one = world.lease("b", START, NOW_MS + 25 * HOUR, 400)
    world.lease("c", START, START + HOUR, 4_000, 0, kind="cpu")
    world.lease("d", START, START + 2 * HOUR, 4_000, 0, kind="cpu")
    world.at(START + HOUR)
    slots = [(START + i * 5 * MINUTE, START + (i + 1) * 5 * MINUTE) for i in range(12)]
    rows = [(lease, leased.device, level) for lease, level in ((both, 700), (one, 400)) for leased in lease.devices]
    world.record(NODE, *((name, lease.lease, *slot, level) for lease, name, level in rows for slot in slots))
    world.spec.when(CancelLease(lease_id("d"), "jws"), member("consumer"))
    world.at(NOW_MS + DAY)
    world.close(100)
    world.at(NOW_MS + DAY + MINUTE)
    tail = (NOW_MS + DAY - 5 * MINUTE, NOW_MS + DAY, 600)
    world.record(NODE, *((leased.device, both.lease, *tail) for leased in both.devices), number=1)
    for day in (2, 3, 4):
        world.at(NOW_MS + day * DAY)
        world.close(99 + day)
    lines = b"\n".join(bytes(encode_data(fact)) for fact in written)
    assert {"OverCapacityDetected", "LateUsageScored"} <= {type(fact).__name__ for fact in written}
    assert hashlib.sha256(lines).hexdigest() == LAST_RELEASE
