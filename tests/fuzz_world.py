"""Metering and the treasury run over one list of happenings, so that a history can be told again with less evidence.

A happening says when it comes, by whom it is in the hand of, and what it is. What cannot be recorded is refused, as it
would be, and the history goes on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from events import registry
from events.catalog import Recorded
from events.envelope import Fact
from events.genesis import Founder, MeteringRules, SubPool
from events.metering import ChallengeResult, Content, LateUsageScored, Lease
from events.registry_terms import KINDS, DeviceKind
from events.treasury import EpochSettled, HoldbackForfeitBooked, LateRewardsPaid
from events.values import HOUR_MS, identifier
from infra.gate import Ungated
from services.kernel.decider import Command, Emit
from services.kernel.errors import MalformedRequest, Refusal
from services.metering import commands
from services.metering.service import service
from services.metering.storage import Answer, Question, answer_sha256, drawn
from services.treasury import service as treasury
from services.treasury.invariants import check_book
from services.treasury.policies import EPOCH_FACTS, settle_epochs
from tests.heartbeat_world import adopt, hash_of, late_batch
from tests.kinds_world import CAPACITY, MODELS, SHARES, TABLES, WHOLE
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, World, batch, device, key_of, lease_id, member, node, signed
from tests.spec import Spec
from tests.storage_world import GENESIS, chunks_of, content_of, root_of, shown
from tests.treasury_given import founded

OWNERS = {"one": "provider", "two": "provider", "three": "other-provider", "four": "kin"}
"""Node to owner. Kin is of the consumer's guild: a lease between them is linked."""

KIND_OF: tuple[DeviceKind, ...] = ("gpu", "gpu", "cpu", "storage", "bandwidth")
"""The devices of every node, by number; only the first node has the second GPU."""

CONTENT = content_of(2_500)
TENTH = 100_000
Row = tuple[str, str, int, int, int]
"""Device, lease, start, end, level."""


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that comes at `at_ms`. `by` is the owner of the node whose evidence it is, "" for everybody else's."""

    at_ms: int
    number: int
    by: str
    what: str
    node: str
    data: Any


@dataclass(frozen=True, slots=True)
class Terms:
    """What the community has agreed on: whether pools are ample (the rate cap binds) or scarce, and the rest."""

    ample: bool = True
    epoch_hours: int = 1
    close_after_hours: int = 2
    availability: bool = True
    consumers_from_the_start: bool = False

    def sub_pools(self) -> tuple[SubPool, ...]:
        """Pools of all kinds; where they are ample a micro-unit earns exactly 1,000 base units of the asset."""
        cap = str(10**9 if self.ample else 10**15)
        return tuple(SubPool(kind, SHARES[kind], cap) for kind in KINDS)

    def rules(self) -> MeteringRules:
        """The same for metering."""
        return MeteringRules(
            holdback_ppm=TENTH,
            sub_pools=self.sub_pools(),
            availability_trials=self.availability,
            consumer_readings_from="2025-01-01T00:00:00Z" if self.consumers_from_the_start else None,
            maintenance_hours_per_30_days=24,
        )


def numbers_of(name: str) -> tuple[int, ...]:
    """The numbers of a node's devices."""
    return (0, 1, 2, 3, 4) if name == "one" else (0, 2, 3, 4)


@dataclass
class Instance:
    """A community in which happenings happen: metering, and the treasury behind it."""

    terms: Terms = field(default_factory=Terms)
    paid: Counter[str] = field(default_factory=Counter)
    """Base units by owner once it is finished: paid, paid late and released."""
    lost: Counter[str] = field(default_factory=Counter)
    """Base units by owner that were held back and forfeited."""
    slices: Counter[str] = field(default_factory=Counter)
    """Scores by owner of what came late: each of them was rounded down to a micro-unit."""

    def __post_init__(self) -> None:
        self.world = World(
            close_after_seconds=self.terms.close_after_hours * 3_600,
            epoch_seconds=self.terms.epoch_hours * 3_600,
            rules=self.terms.rules(),
            tables=TABLES,
            founders=[Founder(handle="kin", kind="human", key=key_of("kin"), roles=("contributor",), guild="users")],
            more_quota={"storage_mb_hours": str(10**12), "bandwidth_mb": str(10**12)},
        )
        self.world.with_member("kin", "users")
        for name in ("steward", "judge"):
            self.world.with_member(name)
            self.knowing(member(name), registry.RoleGranted(member(name), "steward", "jws"))
        for name, owner in OWNERS.items():
            self.register(name, owner)
        emission = 10**14 if self.terms.ample else 100_003
        self.book = founded(emission=emission, sub_pools=self.terms.sub_pools(), holdback_ppm=TENTH, cap=10**17)
        self.book.service = treasury.service(Ungated())
        self.leases: dict[str, Lease] = {}
        self.disputes: list[Happening] = []
        self.open: list[tuple[str, Any]] = []
        self.pools: Counter[int] = Counter()

    @property
    def spec(self) -> Spec:
        return self.world.spec

    def knowing(self, stream: str, fact: Fact) -> None:
        self.spec.knowing(Emit(stream, fact))

    def register(self, name: str, owner: str) -> None:
        devices = tuple(
            registry.Device(
                device(name, number), KIND_OF[number], MODELS[KIND_OF[number]], CAPACITY[KIND_OF[number]], 16_384
            )
            for number in numbers_of(name)
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
        self.knowing(node(name), fact)
        self.knowing(node(name), registry.NodeActivated(node(name)))
        adopt(self.world, name, NOW_MS)

    # What can happen. Each takes the node's name and the happening's data.

    def lease(self, _node: str, data: tuple[Any, ...]) -> None:
        name, kind, start, end, share, renews = data
        content = Content(root_of(CONTENT), len(CONTENT)) if kind == "storage" else None
        asked = commands.LeaseTerms(
            lease_id(name), kind, int(kind == "gpu"), share, start, end, (), renews and lease_id(renews), content
        )
        self.leases[name] = self.world.leases(asked)[0]

    def cancel(self, _node: str, name: str) -> None:
        self.spec.when(commands.CancelLease(lease_id(name), "jws"), member("consumer"))

    def readings(self, name: str, rows: Sequence[Row]) -> None:
        self.world.record_jws(name, batch(name, rows, self.spec.counter))

    def spool(self, name: str, data: tuple[int, str, Sequence[Row], int]) -> None:
        hour, sha, rows, parts = data
        size = -(-len(rows) // parts)
        for part in range(parts):
            chunk = rows[part * size : part * size + size]
            jws = late_batch(name, chunk, hour, sha, part, parts, self.spec.counter)
            self.world.record_jws(name, jws)

    def hour(self, name: str, data: tuple[int, int, str]) -> None:
        hour, minutes, sha = data
        command = commands.RecordHeartbeatHour(node(name), hour, minutes, (1 << 60) - 1, sha, "jws")
        self.spec.when(command, node(name))

    def maintenance(self, name: str, hour: int) -> None:
        command = commands.AnnounceMaintenance(node(name), hour, 1, "jws")
        self.spec.when(command, member(OWNERS[name]))

    def consumer(self, _node: str, rows: Sequence[Row]) -> None:
        devices, leases = sorted({row[0] for row in rows}), sorted({row[1] for row in rows})
        payload = {
            "project": "project",
            "number": self.spec.counter,
            "devices": devices,
            "leases": leases,
            "readings": [(devices.index(row[0]), leases.index(row[1]), *row[2:]) for row in rows],
            "side": "consumer",
        }
        command = commands.RecordConsumerReadings(signed(msgspec.json.encode(payload), "consumer"))
        self.spec.when(command, member("consumer"))

    def challenge(self, name: str, answers: Sequence[tuple[int, int, str | None]]) -> None:
        """(device number, when its run ended, throughput) of each device; the steward records them in one bulk."""
        results = tuple(
            ChallengeResult(
                identifier("fuzz.challenge", name, str(number), str(end)),
                device(name, number),
                MODELS[KIND_OF[number]],
                "infer" if KIND_OF[number] == "gpu" else KIND_OF[number],
                "resnet50-offline" if KIND_OF[number] == "gpu" else "bench",
                "00" * 16,
                "11" * 32,
                end - MINUTE,
                end,
                throughput,
            )
            for number, end, throughput in answers
        )
        self.spec.when(commands.RecordChallengeResults(node(name), results, "jws", "jws"), member("operator"))

    def storage(self, name: str, data: tuple[str, int, int, bool]) -> None:
        """Ask for chunks: of which lease, when it was over, how long the answer took (0: none came), if it is good."""
        lease, end, took, good = data
        seed = identifier("fuzz.seed", lease, str(end)) * 2
        challenge, start = identifier("fuzz.storage", lease, str(end)), end - (took or 60_000)
        named = GENESIS, challenge, node(name), lease_id(lease), seed, start, end
        answer = None
        if took:
            rows = shown(CONTENT if good else CONTENT[::-1], drawn(seed, lease_id(lease), len(chunks_of(CONTENT))))
            answer = signed(msgspec.json.encode(Answer(*named, tuple(rows))), name)
        question = Question(*named, answer_sha256(answer) if answer else None)
        command = commands.RecordStorageChallenge(signed(msgspec.json.encode(question), "operator"), answer)
        self.spec.when(command, member("operator"))

    def dispute(self, name: str, data: tuple[int, Any]) -> None:
        """A steward disputes an epoch of a node, and does so again until there is something to dispute."""
        epoch, ruling = data
        found = self.spec.when(commands.DisputeUsage(node(name), (epoch,), "why", "jws"), member("steward"))
        self.open.append((found[0].dispute, ruling))  # type: ignore[attr-defined]

    def rule(self, _node: str, _data: object) -> None:
        while self.open:
            dispute, ruling = self.open.pop(0)
            self.spec.when(commands.EndDispute(dispute, ruling, "jws"), member("judge"))

    # How time goes by.

    def happen(self, happenings: Iterable[Happening]) -> Instance:
        """Let everything happen in its order, the clock in between."""
        for one in sorted(happenings, key=lambda one: (one.at_ms, one.number)):
            self.until(one.at_ms)
            try:
                getattr(self, one.what)(one.node, one.data)
            except (Refusal, MalformedRequest):
                if one.what == "dispute":
                    self.disputes.append(one)
        return self

    def until(self, time_ms: int) -> None:
        """Let the clock come to a time: close what is due, end what can end."""
        state = self.spec.state
        while (tick := state.grid.end(state.next_live) + self.terms.close_after_hours * HOUR) <= time_ms:
            self.world.at(tick)
            self.clock()
            state = self.spec.state
        self.world.at(time_ms)

    def clock(self) -> None:
        for again in list(self.disputes):
            try:
                self.dispute(again.node, again.data)
            except Refusal:
                continue
            self.disputes.remove(again)
        for _ in range(3):
            for timed in service().due(self.spec.state, self.spec.now_us // 1_000):
                self.follow(self.spec.when(timed.command, "clock"))

    def follow(self, facts: Sequence[Fact]) -> None:
        """Let the treasury do what metering said."""
        self.book.at(self.spec.now_us)
        for fact in facts:
            if isinstance(fact, LateUsageScored):
                self.slices.update(one.owner for one in fact.nodes)
            if isinstance(fact, EPOCH_FACTS):
                number = self.book.counter
                head = "metering", self.spec.position, "epoch", 1, self.spec.now_us, f"fact-{number}", None
                for command in settle_epochs(Ungated(), Recorded(*head, fact)):
                    self.pay(command, "policy/treasury.settle-epochs")

    def pay(self, command: Command, actor: str) -> None:
        for fact in self.book.when(command, actor):
            if isinstance(fact, EpochSettled):
                assert int(fact.paid) + int(fact.late_reserve) + int(fact.kept) == int(fact.pool)
                self.pools[fact.epoch] += int(fact.pool)
            forfeits = fact.rewards if isinstance(fact, HoldbackForfeitBooked) else ()
            forfeits = fact.forfeited or () if isinstance(fact, LateRewardsPaid) else forfeits
            for one in forfeits:
                self.lost[one.owner] += int(one.amount)

    def finish(self) -> Instance:
        """Rule on every dispute, let 8 epochs pass, serve what is held until nothing is, and pay what is left."""
        state = self.spec.state
        length = self.terms.epoch_hours * HOUR
        last = state.grid.epoch_of(self.spec.now_us // 1_000)
        self.until(state.grid.end(last + 1) + self.terms.close_after_hours * HOUR)
        self.rule("", None)
        self.until(self.spec.now_us // 1_000 + 8 * length)
        for served in range(200):
            held = self.spec.state.holdback
            if not held.held:
                break
            now = self.spec.now_us // 1_000
            for name in OWNERS:
                numbers = [one for one in numbers_of(name) if device(name, one) in held.of_device]
                if numbers:
                    self.challenge(name, [(n, now + served, speed(KIND_OF[n])) for n in numbers])
            self.clock()
        assert not self.spec.state.holdback.held
        self.book.at((self.spec.now_us // 1_000 + 36 * DAY) * 1_000)
        for timed in treasury.due(self.book.state, self.book.now_us // 1_000):
            self.pay(timed.command, "clock")
        assert check_book(self.book.state) == ()
        balances = self.book.state.balances
        assert not any(amount for name, amount in balances.items() if name.startswith(("holdback/", "late-", "epoch/")))
        for owner in dict.fromkeys(OWNERS.values()):
            self.paid[owner] = balances.get(member(owner), 0)
            self.lost[owner] = self.lost.pop(member(owner), 0)
            self.slices[owner] = self.slices.pop(member(owner), 0)
        return self


def speed(kind: DeviceKind, percent: int = 100) -> str:
    """A throughput of so much of the reference's."""
    return str(5_600 * percent // 100 if kind == "gpu" else percent)


def spool_of(name: str, hour: int, rows: Sequence[Row]) -> str:
    """The hash of an hour's spool."""
    return hash_of(name, hour, rows)


FIRST_HOUR = NOW_MS // HOUR_MS
