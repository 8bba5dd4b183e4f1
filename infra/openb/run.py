"""The import itself: one method per step, every command through the public HTTP API, every step repeatable.

Each command's idempotency key follows from the operator's key and the names, so a run that was killed goes on when it
is started again: what was recorded answers as a repetition, the rest is done.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import msgspec

from events.genesis import Backfill, Community, PerformanceTable
from infra.keys import SigningKey
from infra.openb.machines import registration, throughput
from infra.openb.names import Names
from infra.openb.report import Report
from infra.openb.slices import Mess, Placed, payloads, signed
from infra.openb.trace import Trace, TraceNode, TracePod

CONCURRENCY: Final = 32
"""Requests under way at once."""

LEASES: Final = 50
"""Leases in one command."""

RESULTS: Final = 5
"""Challenge results recorded per device whose model has a table entry."""

RESULTS_AT_ONCE: Final = 50
"""Challenge results in one command at most."""

BATCHES: Final = 64
"""Signed batches in one request at most."""

CLOSE_TIMEOUT_SECONDS: Final = 900


class ImportRefused(Exception):
    """The import cannot be done here; the message says why."""


class Api(Protocol):
    """The public HTTP API as an import needs it; see `infra.api`. `genesis` is the community's hash."""

    genesis: str

    async def command(self, key: SigningKey, path: str, body: Mapping[str, Any], step: str) -> Mapping[str, Any]:
        """Send a signed command."""
        ...

    async def authorised(
        self, key: SigningKey, name: str, path: str, body: Mapping[str, Any], step: str
    ) -> Mapping[str, Any]:
        """Send a command that carries its actor's own signature inside."""
        ...

    async def bulk(self, key: SigningKey, path: str, elements: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """Send many elements in one request; one answer each."""
        ...

    async def view(self, path: str, **params: str | int) -> Mapping[str, Any]:
        """Query a view."""
        ...


Progress = Callable[[str, int, int], None]
"""`progress(step, done, total)`."""


@dataclass
class Import:
    """A trace on its way into a community."""

    api: Api
    trace: Trace
    community: Community
    backfill: Backfill
    names: Names
    operator: SigningKey
    steward: SigningKey
    slice_ms: int
    mess: Mess
    start_ms: int
    providers: Sequence[str]
    consumer: str
    progress: Progress = lambda _step, _done, _total: None
    report: Report = field(default_factory=Report)
    placed: dict[str, list[Placed]] = field(default_factory=lambda: defaultdict(list))

    @property
    def project(self) -> str:
        """The project that uses the nodes."""
        return self.community.projects[0].slug

    async def run(self) -> Report:
        """Do all steps. Raises ImportRefused."""
        await self.register_nodes()
        await self.name_nodes()
        await self.challenge()
        await self.open_leases()
        await self.send_readings()
        await self.close()
        await self.settle()
        return self.report

    async def register_nodes(self) -> None:
        """Register every node with its owner's signature."""
        jobs = [self._register(number, node) for number, node in enumerate(self.trace.nodes)]
        await self._all("register nodes", jobs)
        self.report.nodes = len(self.trace.nodes)
        self.report.devices = sum(node.gpus for node in self.trace.nodes)

    async def _register(self, number: int, node: TraceNode) -> None:
        owner = self.names.member(self.providers[number % len(self.providers)])
        body = registration(node, self.names.node(node.name).public, self.names.devices(node))
        step = self.names.command("node", node.name)
        await self.api.authorised(owner, "RegisterNode", "/v1/registry/nodes/register", body, step)

    async def name_nodes(self) -> None:
        """Name the backfill's nodes in pages; the last one opens it."""
        nodes = sorted(self.names.node(node.name).node for node in self.trace.nodes)
        for page, at in enumerate(range(0, len(nodes), 1_000)):
            body = {"backfill": self.backfill.name, "page": page, "nodes": nodes[at : at + 1_000]}
            step = self.names.command("nodes", str(page))
            await self.api.command(self.operator, "/v1/metering/backfill-nodes", body, step)

    async def challenge(self) -> None:
        """Record results for the devices whose model stands in the table, dated before the first epoch."""
        table = self.community.performance_tables[0]
        known = {entry.model for entry in table.entries}
        jobs = [self._results(node, table) for node in self.trace.nodes if node.gpus and node.model in known]
        await self._all("challenge results", jobs)

    async def _results(self, node: TraceNode, table: PerformanceTable) -> None:
        key = self.names.node(node.name)
        results = [
            {
                "challenge": self.names.challenge(device, number),
                "device": device,
                "model": node.model,
                "work_class": table.work_class,
                "benchmark": benchmark.name,
                "seed": self.names.challenge(device, number),
                "digest": self.names.command("digest", device, str(number)) * 2,
                "start_ms": self.start_ms - (RESULTS - number) * 3_600_000,
                "end_ms": self.start_ms - (RESULTS - number) * 3_600_000 + 10_000,
                "throughput": throughput(table, node.model, benchmark.throughput),
            }
            for device in self.names.devices(node)
            for number in range(RESULTS)
            for benchmark in table.reference
        ]
        for at in range(0, len(results), 50):
            payload = msgspec.json.encode(
                {"genesis": self.api.genesis, "node": key.node, "results": results[at : at + 50]}
            )
            body = {"challenger_jws": self.steward.jws(payload), "node_jws": key.jws(payload)}
            step = self.names.command("results", node.name, str(at))
            await self.api.command(self.steward, "/v1/metering/challenge-results", body, step)
        self.report.challenge_results += len(results)

    async def open_leases(self) -> None:
        """Open a lease per scheduled pod in (scheduled, name) order; the system places it."""
        pods, consumer = self.trace.pods, self.names.member(self.consumer)
        nodes = {self.names.node(node.name).node: node for node in self.trace.nodes}
        for at in range(0, len(pods), LEASES):
            part = pods[at : at + LEASES]
            body = {"project": self.project, "leases": [self._terms(pod) for pod in part]}
            step = self.names.command("leases", str(at))
            answer = await self.api.authorised(consumer, "OpenLeases", "/v1/metering/leases", body, step)
            for pod, lease in zip(part, answer["leases"], strict=True):
                self._place(pod, lease, nodes)
            self.progress("open leases", at + len(part), len(pods))
        self.report.pods = len(pods)
        self.report.leases = len(pods)

    def _terms(self, pod: TracePod) -> dict[str, Any]:
        terms: dict[str, Any] = {
            "lease": self.names.lease(pod.name),
            "kind": "gpu" if pod.gpus else "cpu",
            "devices": pod.gpus,
            "share": pod.gpu_milli if pod.gpus else pod.cpu_milli,
            "start_ms": self.start_ms + pod.scheduled * 1_000,
            "end_ms": self.start_ms + pod.deleted * 1_000,
        }
        return terms | ({"models": list(pod.models)} if pod.models else {})

    def _place(self, pod: TracePod, lease: Mapping[str, Any], nodes: Mapping[str, TraceNode]) -> None:
        if not pod.gpus:
            return
        start, end = self.start_ms + pod.scheduled * 1_000, self.start_ms + pod.deleted * 1_000
        placed = Placed(lease["lease"], tuple(lease["devices"]), pod.gpu_milli, start, end)
        self.placed[nodes[lease["node"]].name].append(placed)

    async def send_readings(self) -> None:
        """Send every node's signed batches, node by node or all mixed up."""
        order = sorted(self.placed)
        if self.mess.shuffle:
            random.Random(self.mess.seed).shuffle(order)  # noqa: S311 - a test's disorder, no secret
        await self._all("send readings", [self._send(name) for name in order])

    async def _send(self, name: str) -> None:
        key = self.names.node(name)
        made = await asyncio.to_thread(self._sign, name, key)
        for at in range(0, len(made), BATCHES):
            part = made[at : at + BATCHES]
            answers = await self.api.bulk(key, "/v1/metering/readings", [jws for jws, _ in part])
            for answer, (_, readings) in zip(answers, part, strict=True):
                self._count(answer, readings)

    def _sign(self, name: str, key: SigningKey) -> list[tuple[str, int]]:
        batches = payloads(key.node, self.placed[name], self.slice_ms, self.mess)
        return [(signed(payload, key), payload.count(b"[") - 3) for payload in batches]

    def _count(self, answer: Mapping[str, Any], readings: int) -> None:
        self.report.batches_sent += 1
        self.report.readings_sent += readings
        if answer["status"] == "accepted" and not answer.get("rejected"):
            self.report.batches_accepted += 1
        elif answer["status"] == "duplicate":
            self.report.batches_duplicate += 1
        else:
            raise ImportRefused(f"a batch was not taken whole: {dict(answer)}")

    async def close(self) -> None:
        """End the backfill: its epochs close in order from here on."""
        body = {"backfill": self.backfill.name}
        await self.api.command(self.operator, "/v1/metering/backfill-closings", body, self.names.command("close"))

    async def settle(self) -> None:
        """Wait until every epoch of the backfill is closed and paid, and add up what they came to."""
        epoch_ms = self.community.epochs.seconds * 1_000
        wanted = -(-self.trace.end * 1_000 // epoch_ms)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + CLOSE_TIMEOUT_SECONDS
        while True:
            epochs = await self._epochs()
            settled = [epoch for epoch in epochs if epoch["status"] == "settled"]
            self.progress("settle epochs", len(settled), wanted)
            if len(settled) == wanted:
                break
            if loop.time() > deadline:
                raise ImportRefused(f"{len(settled)} of {wanted} epochs were settled in {CLOSE_TIMEOUT_SECONDS} s")
            await asyncio.sleep(0.3)
        self._add_up(settled)

    async def _epochs(self) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        params: dict[str, str | int] = {"limit": 200}
        while True:
            page = await self.api.view("/v1/views/epochs", **params)
            found += [epoch for epoch in page["items"] if epoch["backfill"] == self.backfill.name]
            if not page["next"]:
                return found
            params["cursor"] = page["next"]

    def _add_up(self, epochs: Iterable[Mapping[str, Any]]) -> None:
        share_milli_ms = 0
        for epoch in epochs:
            self.report.epochs += 1
            share_milli_ms += int(epoch["totals"]["gpu"]["allocated_milli_ms"]) if "gpu" in epoch["totals"] else 0
            self.report.reward_pool += int(epoch["pool"])
            self.report.rewards_paid += int(epoch["paid"])
            self.report.reward_reserve += int(epoch["late_reserve"])
            self.report.reward_kept += int(epoch["kept"])
        self.report.verified_milli_gpu_seconds = share_milli_ms // 1_000

    async def _all(self, step: str, jobs: Sequence[Coroutine[Any, Any, None]]) -> None:
        """Run jobs, a bounded number at once; the first error ends them all."""
        gate, done = asyncio.Semaphore(CONCURRENCY), 0

        async def one(job: Coroutine[Any, Any, None]) -> None:
            nonlocal done
            async with gate:
                await job
            done += 1
            self.progress(step, done, len(jobs))

        try:
            async with asyncio.TaskGroup() as group:
                for job in jobs:
                    group.create_task(one(job))
        finally:
            for job in jobs:
                job.close()  # one that never began, because another failed or all were called off
