"""A small running community for flow tests: two nodes of two owners, two projects, and a day of history."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx
import msgspec
import psycopg

from events.envelope import time_text
from events.genesis import Backfill, BackfillSource, Community, Epochs, Limits, Pool, Project
from infra.genesis_file import demo_yaml, read_community
from infra.keys import KeyDirectory, SigningKey, derive_key, member_key
from services.registry.genesis import sha256
from tests.caller import Caller
from tests.instance import Instance

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
HISTORY_DAYS = 36
READINGS = "/v1/metering/readings"
LEASES = "/v1/metering/leases"
SERVICES = ("registry", "metering", "treasury")
Reading = tuple[int, int, int, int, int]


@dataclass
class World:
    """A running instance with two nodes: aurora's T4 and cedar's A10; lab and cedar have a project each."""

    instance: Instance
    community: Community
    now_ms: int
    callers: dict[str, Caller] = field(default_factory=dict)
    history: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def genesis(self) -> str:
        return sha256(self.community)

    @property
    def acks(self) -> SigningKey:
        return KeyDirectory(self.instance.home).signing("acknowledgements")

    def key(self, name: str) -> SigningKey:
        if name in {"t4", "a10", "stranger"}:
            return derive_key(KeyDirectory(self.instance.home).secret("operator"), "bad-input", name)
        return self.instance.key(name)

    def caller(self, name: str) -> Caller:
        if name not in self.callers:
            self.callers[name] = Caller(self.instance.url, self.key(name), self.genesis)
        return self.callers[name]

    def device(self, name: str) -> str:
        return f"device/{hashlib.sha256(name.encode()).hexdigest()[:32]}"

    def heads(self) -> dict[str, int]:
        """The last position of every service, from the database itself: no view is in between."""
        with psycopg.connect(self.instance.dsn) as connection:
            found = {}
            for service in SERVICES:
                row = connection.execute(f"SELECT coalesce(max(notification_id), 0) FROM {service}.events").fetchone()
                assert row is not None
                found[service] = int(row[0])
            return found

    def lease(self, model: str, start_ms: int, end_ms: int, owner: str = "lab", **more: Any) -> httpx.Response:
        """Ask for a lease on a device of a model; `lab` asks for project science, `cedar` for its own."""
        terms = {"lease": secrets.token_hex(16), "share": 1_000, "start_ms": start_ms, "end_ms": end_ms}
        body = {"project": "science" if owner == "lab" else "own", "leases": [terms | {"models": [model]} | more]}
        return self.caller(owner).authorized("OpenLeases", LEASES, body)

    def batch(self, name: str, lease: str, *readings: Reading, **more: Any) -> bytes:
        """The payload of a batch of a node, its own device and one lease in its tables."""
        payload = {
            "node": self.key(name).node,
            "number": secrets.randbelow(1 << 40),
            "devices": [self.device(name)],
            "leases": [lease],
            "readings": readings,
        }
        return msgspec.json.encode(payload | more)

    def report(self, node: str, *payloads: bytes) -> Sequence[dict[str, Any]]:
        """Send batches as their node signs them; return what became of each."""
        return self.bulk(node, *(self.key(node).jws(payload) for payload in payloads))

    def bulk(self, node: str, *batches: str) -> Sequence[dict[str, Any]]:
        """Send batches as they are."""
        response = self.caller(node).command(READINGS, batches)
        assert response.status_code == 200, response.text
        answers: Sequence[dict[str, Any]] = response.json()
        return answers

    def leased(self) -> tuple[str, int]:
        """The id and start of a lease on the T4 that runs now, opened at the first call."""
        return self._leased()

    def __post_init__(self) -> None:
        @cache
        def opened() -> tuple[str, int]:
            start_ms = self.now_ms - 240_000
            response = self.lease("T4", start_ms, start_ms + HOUR_MS, share=500)
            assert response.status_code == 200, response.text
            return str(response.json()["leases"][0]["lease"]), start_ms

        self._leased: Callable[[], tuple[str, int]] = opened


def community_of(seed: bytes, nodes: Sequence[str], now_ms: int) -> Community:
    """The shipped community with two projects and a day of history 36 days ago.

    Epochs last a day and change 12 hours from now, so that the clock records nothing while a test looks.
    """
    shipped = read_community(demo_yaml(), lambda handle: member_key(seed, handle).public)
    zero_ms = now_ms - 40 * DAY_MS - DAY_MS // 2
    start_ms = zero_ms + 4 * DAY_MS
    currency = shipped.currency
    fund = int(currency.initial_supply) // 100
    pools = tuple(
        msgspec.structs.replace(pool, share_ppm=pool.share_ppm - 10_000) if pool.name == "grants" else pool
        for pool in currency.distribution
    )
    backfill = Backfill(
        name="before",
        start=time_text(start_ms * 1_000),
        end=time_text((start_ms + DAY_MS) * 1_000),
        node_count=len(nodes),
        nodes_sha256=hashlib.sha256("".join(f"{node}\n" for node in sorted(nodes)).encode()).hexdigest(),
        sources=(BackfillSource(name="log.csv", sha256="0" * 64),),
        fund=str(fund),
        pool_per_epoch=str(fund),
    )

    def project(slug: str, owner: str) -> Project:
        return Project(slug=slug, owner=owner, size_class="small", gpu_micro_rgpu_hours="1000000000000")

    return msgspec.structs.replace(
        shipped,
        currency=msgspec.structs.replace(
            currency, distribution=(*pools, Pool(name="backfill-before", share_ppm=10_000))
        ),
        epochs=Epochs(zero=time_text(zero_ms * 1_000), seconds=DAY_MS // 1_000, close_after_seconds=0),
        projects=(project("science", "lab"), project("own", "cedar")),
        backfills=(backfill,),
        limits=Limits(commands_per_minute=60_000),
        public_views=False,
    )


def ok(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def register(world: World, name: str, owner: str, model: str) -> httpx.Response:
    key = world.key(name)
    body = {
        "key": msgspec.to_builtins(key.public),
        "zone": "XX",
        "devices": [
            {"device": world.device(name), "kind": "gpu", "model": model, "capacity": 1_000, "memory_mib": 16_384}
        ],
        "cpu_milli": 8_000,
        "memory_mib": 16_384,
        "security_baseline": 1,
        "no_sensitive_data": True,
        "label": name,
    }
    return world.caller(owner).authorized("RegisterNode", "/v1/registry/nodes/register", body, f"register {name}")


def play_history(world: World) -> None:
    """Let both nodes work for a day long ago: the T4 for lab, the A10 for the member that owns it."""
    operator, start_ms = world.caller("operator"), world.now_ms - HISTORY_DAYS * DAY_MS - DAY_MS // 2
    nodes = sorted(world.key(name).node for name in ("t4", "a10"))
    ok(operator.command("/v1/metering/backfill-nodes", {"backfill": "before", "page": 0, "nodes": nodes}))
    for node, model, owner in (("t4", "T4", "lab"), ("a10", "A10", "cedar")):
        (opened,) = ok(world.lease(model, start_ms, start_ms + DAY_MS, owner))["leases"]
        world.history[node] = opened
        slices: list[Reading] = [(0, 0, start_ms + n * 300_000, start_ms + (n + 1) * 300_000, 1_000) for n in range(12)]
        (answer,) = world.report(node, world.batch(node, opened["lease"], *slices))
        assert answer["status"] == "accepted"
        assert not answer["rejected"]
    ok(operator.command("/v1/metering/backfill-closings", {"backfill": "before"}))
    epochs = world.caller("lab").view
    until(lambda: [epoch["status"] for epoch in ok(epochs("/v1/views/epochs"))["items"]] == ["settled"])


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.1)
