"""A community that pools every kind of resource, and a node that lends all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from events import registry
from events.genesis import Benchmark, MeteringRules, PerformanceTable, SubPool, TableEntry
from events.metering import ChallengeResult, Content, Lease, StorageChallenged
from events.registry_terms import KINDS, DeviceKind
from events.values import identifier
from services.kernel.decider import Emit
from services.metering.commands import LeaseTerms, OpenLeases, RecordChallengeResults, RecordConsumerReadings
from tests.metering_world import MINUTE, NOW_MS, TABLE, World, device, key_of, lease_id, member, node, signed

NODE = "all"
MODELS: dict[DeviceKind, str] = {"gpu": "T4", "cpu": "cores", "storage": "disk", "bandwidth": "line"}
DEVICES: dict[DeviceKind, str] = {kind: device(NODE, number) for number, kind in enumerate(KINDS)}
WHOLE: dict[DeviceKind, int] = {"gpu": 1_000, "cpu": 8_000, "storage": 500_000, "bandwidth": 12_500}
"""Milli, 8 cores, 500 GB in MB, 100 Mbit/s in kB/s."""

CAPACITY: dict[DeviceKind, int] = {"gpu": 1_000, "cpu": 8_000, "storage": 500 * 10**9, "bandwidth": 100 * 10**6}
SHARES: dict[DeviceKind, int] = {"gpu": 700_000, "cpu": 150_000, "storage": 100_000, "bandwidth": 50_000}
GB = 10**9
Reading = tuple[str, str, int, int, int]


def pools(*kinds: DeviceKind) -> tuple[SubPool, ...]:
    """Sub-pools of some kinds; the first has what is left."""
    rest = sum(SHARES[kind] for kind in kinds[1:])
    shares = {kind: SHARES[kind] for kind in kinds} | {kinds[0]: 1_000_000 - rest}
    return tuple(SubPool(kind=kind, share_ppm=share, rate_cap="1000") for kind, share in shares.items())


def table(kind: DeviceKind) -> PerformanceTable:
    """A table whose reference runs 100 of `bench` in a second."""
    assert kind != "gpu"
    return PerformanceTable(
        work_class=kind,
        version=1,
        reference_model=MODELS[kind],
        reference=(Benchmark(name="bench", throughput="100"),),
        entries=(TableEntry(model=MODELS[kind], performance_factor="1.0000"),),
    )


TABLES = (TABLE, table("cpu"), table("storage"), table("bandwidth"))


def kinds_world(
    *kinds: DeviceKind, tables: Sequence[PerformanceTable] = TABLES, close_after_seconds: int = 86_400, **rules: Any
) -> World:
    """A community with sub-pools of these kinds (all when none is named) and the node in it."""
    world = World(
        close_after_seconds=close_after_seconds,
        rules=MeteringRules(sub_pools=pools(*(kinds or KINDS)), **rules),
        tables=tables,
        more_quota={"storage_mb_hours": str(10**12), "bandwidth_mb": str(10**12)},
    )
    return with_all(world)


def with_all(world: World, name: str = NODE, owner: str = "provider") -> World:
    """Add a node with one device of every kind."""
    devices = tuple(
        registry.Device(device(name, number), kind, MODELS[kind], CAPACITY[kind], 16_384)
        for number, kind in enumerate(KINDS)
    )
    fact = registry.NodeRegistered(
        node(name),
        member(owner),
        key_of(name),
        "DE",
        devices,
        WHOLE["cpu"],
        65_536,
        registry.Window(),
        1,
        True,  # noqa: FBT003 - the only value there is
        "jws",
        CAPACITY["storage"],
        CAPACITY["bandwidth"],
    )
    world.spec.knowing(Emit(node(name), fact), Emit(node(name), registry.NodeActivated(node(name))))
    return world


def terms(kind: DeviceKind, name: object, start_ms: int, end_ms: int, share: int, **more: Any) -> LeaseTerms:
    """What a consumer asks for; content of exactly the share where it is storage."""
    content = Content("ab" * 32, share * 10**6) if kind == "storage" else None
    fields: dict[str, Any] = {"devices": int(kind == "gpu"), "content": content} | more
    return LeaseTerms(lease_id(name), kind, share=share, start_ms=start_ms, end_ms=end_ms, **fields)


def lease(world: World, kind: DeviceKind, name: object, start_ms: int, end_ms: int, share: int, **more: Any) -> Lease:
    """Open a lease of a kind; return it as placed."""
    return world.leases(terms(kind, name, start_ms, end_ms, share, **more))[0]


def open_as(world: World, owner: str, *asked: LeaseTerms) -> None:
    """Ask for leases in another's name."""
    world.spec.when(OpenLeases("project", asked, "jws"), member(owner))


def slots(kind: DeviceKind, name: object, level: int, first: int = 0, count: int = 12) -> list[Reading]:
    """Readings of five minutes each on the node's device of a kind, from the `first` on after NOW_MS."""
    return [
        (DEVICES[kind], lease_id(name), NOW_MS + i * 5 * MINUTE, NOW_MS + (i + 1) * 5 * MINUTE, level)
        for i in range(first, first + count)
    ]


def consume(world: World, readings: Sequence[Reading], number: int = 0) -> None:
    """Record the consumer's side."""
    devices, leases = sorted({one[0] for one in readings}), sorted({one[1] for one in readings})
    payload = {
        "project": "project",
        "number": number,
        "devices": devices,
        "leases": leases,
        "readings": [(devices.index(one[0]), leases.index(one[1]), *one[2:]) for one in readings],
        "side": "consumer",
    }
    world.spec.when(RecordConsumerReadings(signed(msgspec.json.encode(payload), "consumer")), member("consumer"))


def prove(world: World, name: object, end_ms: int, *, passed: bool = True) -> None:
    """Note a storage challenge that ended then."""
    world.count += 1
    challenge = identifier("storage-challenge", str(world.count))
    fact = StorageChallenged(
        node(NODE),
        member("provider"),
        DEVICES["storage"],
        lease_id(name),
        challenge,
        member("operator"),
        passed,
        end_ms - 1_000,
        end_ms,
        "jws",
        "jws",
    )
    world.spec.given(Emit(node(NODE), fact))


def tried(world: World, kind: DeviceKind, throughputs: Sequence[str | None], last_ms: int) -> None:
    """Record results of the node's device of a kind, ten minutes apart, the last one then."""
    for index, throughput in enumerate(throughputs):
        world.count += 1
        end = last_ms - (len(throughputs) - 1 - index) * 10 * MINUTE
        result = ChallengeResult(
            identifier("challenge", str(world.count)),
            DEVICES[kind],
            MODELS[kind],
            kind if kind != "gpu" else "infer",
            "bench" if kind != "gpu" else "resnet50-offline",
            "00" * 16,
            "11" * 32,
            end - MINUTE,
            end,
            throughput,
        )
        world.spec.when(RecordChallengeResults(node(NODE), (result,), "jws", "jws"), member("operator"))
