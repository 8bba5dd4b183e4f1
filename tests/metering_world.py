"""A small community for metering's rules: an operator, a project, providers with nodes, and a backfill or none."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from events import registry
from events.envelope import time_text, time_us
from events.genesis import (
    Backfill,
    BackfillSource,
    Benchmark,
    Community,
    Currency,
    Epochs,
    Founder,
    MeteringRules,
    PerformanceTable,
    Pool,
    Project,
    TableEntry,
)
from events.metering import ChallengeResult, ChallengeResultsRecorded, Lease, ReadingsRecorded
from events.registry_terms import PublicKey
from events.values import identifier, member_id, node_id
from services.kernel.decider import Emit
from services.kernel.jws import b64, public_key, raw_public, sign_jws
from services.metering.batches import read_batch
from services.metering.commands import (
    AdoptGenesis,
    CloseBackfill,
    CloseEpoch,
    LeaseTerms,
    NameBackfillNodes,
    OpenLeases,
    RecordChallengeResults,
    RecordReadings,
)
from services.metering.decide.backfills import nodes_sha256
from services.metering.service import service
from tests.spec import Spec

ZERO = "2025-01-01T00:00:00Z"
ZERO_MS = 1_735_689_600_000
DAY = 86_400_000
HOUR = 3_600_000
MINUTE = 60_000
NOW_MS = ZERO_MS + 100 * DAY
"""The founding of the small community: the start of epoch 100."""

TABLE = PerformanceTable(
    work_class="infer",
    version=1,
    reference_model="T4",
    reference=(Benchmark(name="resnet50-offline", throughput="5600"),),
    entries=tuple(
        TableEntry(model=model, performance_factor=factor)
        for model, factor in (
            ("T4", "1.0000"),
            ("A10", "2.3470"),
            ("A30", "3.0790"),
            ("A40", "3.3490"),
            ("A100-PCIe-40", "5.4370"),
            ("A100-SXM-80", "6.6620"),
        )
    ),
)


@lru_cache(maxsize=8_192)
def private_key(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


@lru_cache(maxsize=8_192)
def key_of(name: str) -> PublicKey:
    return public_key(raw_public(private_key(name)))


@lru_cache(maxsize=8_192)
def member(name: str) -> str:
    return member_id(raw_public(private_key(name)))


@lru_cache(maxsize=8_192)
def node(name: str) -> str:
    return node_id(raw_public(private_key(name)))


def device(node_name: str, number: int = 0) -> str:
    return f"device/{identifier('test.device', node_name, str(number))}"


def lease_id(name: object) -> str:
    return identifier("test.lease", str(name))


def signed(payload: bytes, name: str, *, real: bool = False) -> str:
    """Return a JWS; rules never look at the signature, so it is only made where a test checks it."""
    if real:
        return sign_jws(private_key(name), key_of(name).kid, payload)
    return f"{b64(b'{}')}.{b64(payload)}.{b64(bytes(64))}"


def batch(
    node_name: str,
    readings: Sequence[tuple[str, str, int, int, int]],
    number: int = 0,
    *,
    real: bool = False,
    signer: str | None = None,
) -> str:
    """Return a signed batch of `(device, lease, start, end, level)`."""
    devices = sorted({reading[0] for reading in readings})
    leases = sorted({reading[1] for reading in readings})
    at = {name: index for index, name in enumerate(devices)}
    of = {name: index for index, name in enumerate(leases)}
    payload = {
        "node": node(node_name),
        "number": number,
        "devices": devices,
        "leases": leases,
        "readings": [(at[name], of[lease], *rest) for name, lease, *rest in readings],
    }
    return signed(msgspec.json.encode(payload), signer or node_name, real=real)


@dataclass
class World:
    """A community with rules adopted; `spec` carries state and directory."""

    backfill_days: int = 0
    close_after_seconds: int = 172_800
    epoch_seconds: int = 86_400
    quota: str = str(10**15)
    rules: MeteringRules = field(default_factory=MeteringRules)
    backfill_nodes: Sequence[str] = ()
    founders: Sequence[Founder] = ()
    tables: Sequence[PerformanceTable] = (TABLE,)
    zero: str = ZERO
    now_ms: int = NOW_MS
    more_quota: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.spec = Spec(service(), now_us=self.now_ms * 1_000)
        self.community = self._community()
        self.spec.knowing(Emit("community", registry.CommunityFounded(self.community, "0" * 64)))
        for name in ("operator", "consumer", "provider", "other-provider"):
            self._register_member(name)
        self.spec.when(AdoptGenesis(self.community, self.now_ms), "policy/metering.adopt")
        self.count = 0

    def _community(self) -> Community:
        backfills: tuple[Backfill, ...] = ()
        if self.backfill_days:
            named = sorted(node(name) for name in self.backfill_nodes)
            backfills = (
                Backfill(
                    name="history",
                    start=self.zero,
                    end=_text(_ms(self.zero) + self.backfill_days * DAY),
                    node_count=len(named),
                    nodes_sha256=nodes_sha256(named),
                    sources=(BackfillSource(name="trace.csv", sha256="0" * 64),),
                    fund="1000000",
                    pool_per_epoch="1000",
                ),
            )
        return Community(
            format="commons.genesis/1",
            name="Test",
            origin="test.example",
            members=(
                Founder(handle="operator", kind="human", key=key_of("operator"), roles=("operator",)),
                Founder(handle="consumer", kind="human", key=key_of("consumer"), roles=("contributor",), guild="users"),
                *self.founders,
            ),
            currency=Currency(
                cap="1000000",
                initial_supply="1000000",
                emission_per_epoch="0",
                distribution=(Pool(name="emission-reserve", share_ppm=1_000_000),),
            ),
            epochs=Epochs(zero=self.zero, seconds=self.epoch_seconds, close_after_seconds=self.close_after_seconds),
            performance_tables=tuple(self.tables),
            metering=self.rules,
            projects=(
                Project(
                    slug="project",
                    owner="consumer",
                    size_class="small",
                    gpu_micro_rgpu_hours=self.quota,
                    cpu_milli_core_hours=self.quota,
                    **self.more_quota,
                ),
            ),
            backfills=backfills,
        )

    def _register_member(self, name: str, guild: str | None = None) -> None:
        guild = {"consumer": "users"}.get(name, guild)
        self.spec.knowing(
            Emit(member(name), registry.MemberRegistered(member(name), name, "human", key_of(name), guild))
        )

    def with_member(self, name: str, guild: str | None = None) -> World:
        self._register_member(name, guild)
        return self

    def with_node(
        self,
        name: str,
        devices: int = 1,
        model: str = "T4",
        owner: str = "provider",
        window: registry.Window | None = None,
        cpu_milli: int = 64_000,
    ) -> World:
        fact = registry.NodeRegistered(
            node(name),
            member(owner),
            key_of(name),
            "DE",
            tuple(registry.Device(device(name, number), "gpu", model, 1_000, 16_384) for number in range(devices)),
            cpu_milli,
            65_536,
            window or registry.Window(),
            1,
            True,  # noqa: FBT003 - the only value there is
            "jws",
        )
        self.spec.knowing(Emit(node(name), fact), Emit(node(name), registry.NodeActivated(node(name))))
        return self

    def open_backfill(self) -> World:
        named = sorted(node(name) for name in self.backfill_nodes)
        for page in range(-(-len(named) // 1_000)):
            self.spec.when(NameBackfillNodes("history", page, tuple(named[page * 1_000 : page * 1_000 + 1_000])))
        return self

    def close_backfill(self) -> World:
        self.spec.when(CloseBackfill("history"))
        return self

    def at(self, now_ms: int) -> World:
        self.spec.at(now_ms * 1_000)
        return self

    def lease(
        self, name: object, start_ms: int, end_ms: int, share: int = 1_000, devices: int = 1, **terms: Any
    ) -> Lease:
        """Open one lease; return it as placed."""
        asked = LeaseTerms(lease_id(name), terms.pop("kind", "gpu"), devices, share, start_ms, end_ms, **terms)
        return self.leases(asked)[0]

    def leases(self, *asked: LeaseTerms) -> tuple[Lease, ...]:
        return self.spec.when(OpenLeases("project", asked, "jws"), member("consumer"))[0].leases

    def record(self, node_name: str, *readings: tuple[str, str, int, int, int], number: int = 0) -> ReadingsRecorded:
        return self.record_jws(node_name, batch(node_name, readings, number))

    def record_jws(self, node_name: str, jws: str) -> ReadingsRecorded:
        found = self.spec.when(RecordReadings(jws), node(node_name), f"{read_batch(jws).batch}-{self.spec.counter}")
        return found[0]

    def results(
        self, node_name: str, number: int, model: str, throughputs: Sequence[str | None], last_ms: int
    ) -> ChallengeResultsRecorded:
        """Record results of one device, ten minutes apart, the last at `last_ms`."""
        results = []
        for index, throughput in enumerate(throughputs):
            end = last_ms - (len(throughputs) - 1 - index) * 10 * MINUTE
            self.count += 1
            results.append(
                ChallengeResult(
                    identifier("challenge", str(self.count)),
                    device(node_name, number),
                    model,
                    "infer",
                    "resnet50-offline",
                    "00" * 16,
                    "11" * 32,
                    end - 60_000,
                    end,
                    throughput,
                )
            )
        command = RecordChallengeResults(node(node_name), tuple(results), "jws", "jws")
        return self.spec.when(command, member("operator"))[0]

    def close(self, epoch: int) -> Sequence[Any]:
        return self.spec.when(CloseEpoch(epoch), "clock")


def _ms(text: str) -> int:
    return time_us(text) // 1_000


def _text(time_ms: int) -> str:
    return time_text(time_ms * 1_000)
