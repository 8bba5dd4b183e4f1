"""Histories to follow: facts as records in stores, without the services that would decide them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import msgspec
from eventsourcing.persistence import StoredEvent

from events import metering, registry, treasury
from events.envelope import Draft, Fact, encode_data, fact_id, open_record, seal_record, time_text
from events.registry_terms import PublicKey, Wallet
from events.store import Store

NOW_US = 1_760_000_000_000_000
DAY_MS = 86_400_000
KEY = PublicKey("kid-1", "x" * 43)
Entry = tuple[str, Fact]
"""A stream and a fact for it; the service is the first part of the fact's type."""


def member(number: int) -> str:
    return f"member/{number:032x}"


def node(number: int) -> str:
    return f"node/{number:032x}"


@dataclass
class History:
    """Appends facts to stores, each with the next version of its stream."""

    stores: Mapping[str, Store]
    versions: dict[tuple[str, str], int] = field(default_factory=dict)

    async def record(self, *entries: Entry, actor: str = "member/" + "0" * 32) -> None:
        """Append the facts, in one commit per run of facts of the same service."""
        run: list[Entry] = []
        for entry in entries:
            if run and service_of(run[0]) != service_of(entry):
                await self._append(run, actor)
                run = []
            run.append(entry)
        if run:
            await self._append(run, actor)

    async def _append(self, entries: Sequence[Entry], actor: str) -> None:
        service = service_of(entries[0])
        events = []
        for stream, fact in entries:
            version = self.versions.get((service, stream), 0) + 1
            self.versions[service, stream] = version
            key = f"{service} {stream} {version}".encode()
            draft = Draft(
                id=fact_id(key, 0),
                source=f"https://test.example/{service}",
                type=fact.TYPE,
                subject=stream,
                data=encode_data(fact),
                actor=actor,
                commandid=key.hex(),
            )
            events.append(StoredEvent(stream, version, fact.TYPE, open_record(draft)))
        async with self.stores[service].session() as session:
            await session.append(events, seal=seal)


def seal(event: StoredEvent, position: int, time_us: int) -> bytes:
    return seal_record(event.state, event.originator_version, time_text(time_us), position)


def service_of(entry: Entry) -> str:
    return entry[1].TYPE.partition(".")[0]


def joined(number: int, handle: str) -> Entry:
    return member(number), registry.MemberRegistered(member(number), handle, "human", KEY)


def wallet(number: int) -> Wallet:
    return Wallet(f"0x{number:040x}", "{}")


def registered(number: int, owner: int) -> Entry:
    device = registry.Device(f"device/{number:032x}", "gpu", "T4", 1_000, 16_000)
    fact = registry.NodeRegistered(
        node=node(number),
        owner=member(owner),
        key=KEY,
        zone="DE",
        devices=(device,),
        cpu_milli=8_000,
        memory_mib=32_000,
        window=registry.Window(),
        security_baseline=1,
        no_sensitive_data=True,
        authorization="a.b.c",
    )
    return node(number), fact


def posted(debit: str, credit: str, amount: int, number: int = 0) -> Entry:
    return "book/COMPUTE", treasury.TransactionPosted(f"transaction/{number}", (posting(debit, credit, amount),))


def minted(account: str, amount: int) -> Entry:
    return "book/COMPUTE", treasury.SupplyMinted(account, str(amount), "genesis")


def opened(account: str, owner: str) -> Entry:
    return "book/COMPUTE", treasury.AccountOpened(account, owner, "member")


def readings(number: int, batch: int, intervals: Sequence[tuple[int, int]], *, rejected: int = 0) -> Entry:
    """A batch of readings of one device; the first `rejected` of them count as rejected."""
    rows: list[list[object]] = [[0, 0, start, end, 1_000] for start, end in intervals]
    payload = {"node": node(number), "number": batch, "devices": [], "leases": [], "readings": rows}
    text = base64.urlsafe_b64encode(json.dumps(payload).encode()).decode().rstrip("=")
    fact = metering.ReadingsRecorded(
        node=node(number),
        batch=f"{batch:064x}",
        number=batch,
        readings=len(rows),
        jws=f"e30.{text}.c2ln",
        rejected={"too-old": tuple(range(rejected))} if rejected else None,
    )
    return node(number), fact


def leases(project: str, *numbers: int) -> Entry:
    rows = tuple(
        metering.Lease(
            lease=f"lease/{number:032x}",
            kind="gpu",
            node=node(number % 3),
            owner=member(number % 3),
            devices=(metering.LeasedDevice(f"device/{number % 3:032x}", "T4"),),
            share=500,
            start_ms=0,
            end_ms=3_600_000,
            work_class="infer",
            charged="1000",
        )
        for number in numbers
    )
    return f"project/{project}", metering.LeasesOpened(project, member(9), rows, "a.b.c")


def cancelled(project: str, number: int) -> Entry:
    fact = metering.LeaseCancelled(project, f"lease/{number:032x}", 1_800_000, "500", "a.b.c")
    return f"project/{project}", fact


def scored(epoch: int, *numbers: int, share: int = 3_600_000_000) -> Entry:
    rows = tuple(
        metering.NodeScore(
            node=node(number),
            owner=member(number),
            micro_rgpu_hours=str(1_000_000 + number),
            offered_milli_ms="86400000000",
            allocated_milli_ms=str(share),
            utilised_milli_ms="0",
            devices=(metering.DeviceScore(f"device/{number:032x}", "infer", str(share), 10_000, 211_325 + epoch),),
        )
        for number in numbers
    )
    return f"epoch/{epoch}", metering.EpochPaged(epoch, 0, rows)


def scored_cores(epoch: int, *numbers: int) -> Entry:
    """The same nodes' processors."""
    stream, page = scored(epoch, *numbers, share=7_200_000_000)
    return stream, msgspec.structs.replace(page, page=1, kind="cpu")


def of_two_kinds(scored_in: int, epoch: int, number: int) -> Sequence[Entry]:
    """A node's scores by kind, and what becomes of a reward that was held back."""
    waits = [held(epoch, number), released(epoch, number), forfeited(epoch, number)]
    return [scored(scored_in, number), scored_cores(scored_in, number), *waits]


def held(epoch: int, number: int) -> Entry:
    """Rewards of processors of which a tenth is held back."""
    postings = (
        posting(f"epoch/{epoch}/cpu", member(number), 90),
        posting(f"epoch/{epoch}/cpu", f"holdback/{epoch}", 10),
    )
    return "book/COMPUTE", treasury.RewardsPaid(epoch, 0, (node(number),), postings, "cpu", _waiting(number))


def released(epoch: int, number: int) -> Entry:
    postings = (posting(f"holdback/{epoch}", member(number), 10),)
    fact = treasury.HoldbackPaid(epoch, "cpu", "fact", (node(number),), _waiting(number), postings, "ungated")
    return "book/COMPUTE", fact


def forfeited(epoch: int, number: int) -> Entry:
    postings = (posting(f"holdback/{epoch}", "treasury/forfeits", 10),)
    fact = treasury.HoldbackForfeitBooked(epoch, "cpu", "fact", (node(number),), _waiting(number), postings)
    return "book/COMPUTE", fact


def _waiting(number: int) -> tuple[treasury.NodeReward, ...]:
    return (treasury.NodeReward(node(number), member(number), "10"),)


def closed(epoch: int, nodes: int) -> Entry:
    totals = metering.EpochTotals("1000000", "3600000000", "0", "86400000000", nodes)
    fact = metering.EpochClosed(
        epoch=epoch,
        start_ms=epoch * DAY_MS,
        end_ms=(epoch + 1) * DAY_MS,
        through_position="1",
        pages=1,
        root="ab" * 32,
        totals={"gpu": totals},
        table_sha256={},
    )
    return f"epoch/{epoch}", fact


def paid(epoch: int, *numbers: int, amount: int = 700) -> Entry:
    postings = tuple(posting(f"epoch/{epoch}", member(number), amount) for number in numbers)
    nodes = tuple(node(number) for number in numbers)
    return "book/COMPUTE", treasury.RewardsPaid(epoch, 0, nodes, postings)


def posting(debit: str, credit: str, amount: int) -> treasury.Posting:
    return treasury.Posting(debit, credit, str(amount))


def late_paid(epoch: int, number: int) -> Entry:
    postings = (posting(f"late-reserve/{epoch}", member(number), 11),)
    return "book/COMPUTE", treasury.LateRewardsPaid(epoch, "late", (node(number),), postings, "ungated")


def settled(epoch: int) -> Entry:
    fact = treasury.EpochSettled(epoch, "closed", "1000", "700", "20", "280", "7", "1000", "ungated", ())
    return "book/COMPUTE", fact


def signers(number: int, step: int) -> tuple[Entry, ...]:
    """Keys and wallets that come and go."""
    return (
        (node(number), registry.KeyRotated(node(number), "old", PublicKey(f"kid-{step}", "y" * 43), "a", "b")),
        (member(number), registry.KeyRotated(member(number), "old", PublicKey(f"k{step}", "z" * 43), "a", "b")),
        (member(number), registry.KeyLinked(member(number), PublicKey(f"l{step}", "z" * 43), "a", "b")),
        (member(number), registry.WalletLinked(member(number), wallet(step), "a.b.c")),
        (member(number), registry.WalletRotated(member(number), "0xold", wallet(step), "a")),
        (member(number), registry.WalletUnlinked(member(number), wallet(step).address, "a.b.c")),
    )


def a_community(draw: Random, steps: int) -> Iterator[Entry]:
    """Facts of everything views handle, in an order the services could have recorded them in."""
    yield opened(member(0), member(0))
    yield minted("pool/community", 10**12)
    for number in range(3):
        yield joined(number, f"m{number}")
        yield registered(number, number)
    for step in range(steps):
        number, epoch = draw.randrange(3), draw.randrange(4)
        start = draw.randrange(3 * DAY_MS)
        yield draw.choice(
            [
                posted("pool/community", member(number), draw.randrange(1, 10**6), step),
                readings(
                    number, step, [(start, start + 60_000), (start + DAY_MS, start + DAY_MS + 1)], rejected=step % 2
                ),
                leases(f"p{number}", 10 + 3 * step + number),
                cancelled(f"p{number}", 10 + 3 * step + number),
                *of_two_kinds(4 * step + epoch, epoch, number),
                closed(4 * step + epoch, 1),
                paid(epoch, number),
                settled(epoch),
                (member(number), registry.RoleGranted(member(number), draw.choice(["provider", "steward"]))),
                (member(number), registry.RoleRevoked(member(number), "steward", "a.b.c")),
                (node(number), registry.NodeLabelled(node(number), f"label {step}")),
                (node(number), registry.NodeActivated(node(number))),
                (node(number), registry.NodeSuspended(node(number), "steward")),
                ("book/COMPUTE", treasury.SupplyBurned("pool/community", "5", "a.b.c")),
                (node(number), registry.NodeVerified(node(number), "fact")),
                (node(number), registry.NodeReinstated(node(number), ("fact",), "steward", "active")),
                (node(number), registry.NodeRetired(node(number), "a.b.c")),
                (node(number), registry.NodeWindowStated(node(number), registry.Window(step % 24, 24), "a.b.c")),
                *signers(number, step),
                (member(number), registry.ProfileSealed(member(number), {"name": f"sealed-{step}"}, "a.b.c")),
                (member(number), registry.SubjectErased(member(number), "a.b.c")),
                ("book/COMPUTE", treasury.AccountClosed(f"epoch/{epoch}")),
                late_paid(epoch, number),
                ("book/COMPUTE", treasury.LateReserveReleased(epoch, (posting("late-reserve/1", "pool/x", 3),))),
                ("book/COMPUTE", treasury.EpochPoolFunded(epoch, (), "1000")),
                (
                    f"epoch/{epoch}",
                    metering.LateUsageScored(epoch, 1_000 + step, 0, 1, "0", scored(epoch, number)[1].nodes),  # type: ignore[attr-defined]
                ),
            ]
        )
