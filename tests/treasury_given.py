"""Histories of a book, for tests of the treasury: who is who, a founded community, epochs that were scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import msgspec

from events import treasury
from events.catalog import Recorded
from events.envelope import Fact
from events.genesis import Backfill, Community, Currency, Epochs, Founder, MeteringRules, Pool, SubPool
from events.registry_terms import KINDS, DeviceKind
from events.treasury import AccountOpened, AssetDefined, Posting, ScoredNode, SupplyMinted
from events.values import member_id
from infra.gate import Ungated
from services.kernel.decider import Emit, Service
from services.kernel.jws import public_key
from services.treasury.commands import NoteEpochScores, PayLateUsage, PostTransaction, SettleEpoch
from services.treasury.invariants import check_book
from services.treasury.service import service
from services.treasury.state import Book
from tests.spec import Spec

BOOK = "book/COMPUTE"
ADA, BEN, CAT = (member_id(bytes([letter]) * 32) for letter in b"abc")
CAP = 10_000_000_000
EMISSION = 1_000_000
RATE_CAP = 10**15


def sound_service() -> Service[Book]:
    """The treasury, whose book is checked after every single fact."""
    plain = service(Ungated())

    def evolve(state: Book, recorded: Recorded) -> Book:
        after = plain.evolve(state, recorded)
        assert check_book(after) == (), recorded.fact
        return after

    return replace(plain, evolve=evolve)


def emits(*facts: Fact) -> list[Emit]:
    return [Emit(BOOK, fact) for fact in facts]


def founded(
    cap: int = CAP,
    emission: int = EMISSION,
    rate_cap: int = RATE_CAP,
    late_ppm: int = 20_000,
    holdback_ppm: int | msgspec.UnsetType = msgspec.UNSET,
    sub_pools: Sequence[SubPool] | msgspec.UnsetType = msgspec.UNSET,
    **funds: int,
) -> Spec:
    """A book with an asset, the emission reserve, Ada, Ben and Cat, and what the keywords put on their accounts."""
    pools = sub_pools if isinstance(sub_pools, msgspec.UnsetType) else tuple(sub_pools)
    spec = Spec(sound_service()).given(
        *emits(
            AssetDefined("COMPUTE", 6, str(cap), str(emission), late_ppm, 35, str(rate_cap), pools, holdback_ppm),
            AccountOpened("pool/emission-reserve", "community", "pool"),
            *(AccountOpened(member, member, "member") for member in (ADA, BEN, CAT)),
        )
    )
    for name, amount in funds.items():
        spec.given(*emits(SupplyMinted({"ada": ADA, "ben": BEN, "cat": CAT}[name], str(amount), "genesis")))
    return spec


def with_fund(spec: Spec, name: str, amount: int, pool_per_epoch: int) -> Spec:
    return spec.given(
        *emits(
            AccountOpened(f"fund/{name}", "community", "pool"),
            SupplyMinted(f"fund/{name}", str(amount), "genesis"),
            treasury.FundOpened(name, f"fund/{name}", str(pool_per_epoch)),
        )
    )


def transfer(*postings: tuple[str, str, int | str]) -> PostTransaction:
    return PostTransaction(tuple(Posting(debit, credit, str(amount)) for debit, credit, amount in postings), "a.b.c")


def node(number: int) -> str:
    return f"node/{number:032x}"


def scored(*scores: tuple[int, str, int]) -> tuple[ScoredNode, ...]:
    """(node number, owner, micro-rGPUh) of each node."""
    return tuple(ScoredNode(node(number), owner, str(score)) for number, owner, score in scores)


def settle(
    spec: Spec, epoch: int, scores: Sequence[ScoredNode], backfill: str | None = None, page: int = 200
) -> Sequence[Fact]:
    """Note an epoch's pages and settle it; return the facts of the settlement."""
    pages = [tuple(scores[start : start + page]) for start in range(0, len(scores), page)]
    for number, part in enumerate(pages):
        spec.when(NoteEpochScores(epoch, number, f"page-{epoch}-{number}", part), "policy/treasury.settle-epochs")
    total = sum(int(score.micro_rgpu_hours) for score in scores)
    command = SettleEpoch(epoch, len(pages), str(total), backfill, f"closed-{epoch}", "ungated")
    return spec.when(command, "policy/treasury.settle-epochs")


def settle_kinds(
    spec: Spec, epoch: int, scores: Mapping[DeviceKind, Sequence[ScoredNode]], backfill: str | None = None
) -> Sequence[Fact]:
    """Note a page of each kind's scores and settle them all; return the facts of the settlement."""
    pages = [(kind, tuple(scores[kind])) for kind in KINDS if scores.get(kind)]
    for number, (kind, part) in enumerate(pages):
        spec.when(NoteEpochScores(epoch, number, f"page-{epoch}-{number}", part, kind))
    totals = {kind: str(sum(int(one.micro_rgpu_hours) for one in part)) for kind, part in scores.items()}
    gpu = totals.pop("gpu", "0")
    rest = f"closed-{epoch}", "ungated", tuple(totals.items())
    return spec.when(SettleEpoch(epoch, len(pages), gpu, backfill, *rest))


def late_pages(
    epoch: int, scored_in: int, scores: Sequence[ScoredNode], page: int = 200, kind: DeviceKind = "gpu"
) -> tuple[PayLateUsage, ...]:
    """Return the commands that pages of late scores become, at least one."""
    parts = [tuple(scores[start : start + page]) for start in range(0, len(scores), page)] or [()]
    total = str(sum(int(score.micro_rgpu_hours) for score in scores))
    return tuple(
        PayLateUsage(epoch, scored_in, number, len(parts), total, f"late-{scored_in}-{number}", part, "ungated", kind)
        for number, part in enumerate(parts)
    )


def only(facts: Sequence[Fact], kind: type[Fact]) -> list[Fact]:
    return [fact for fact in facts if isinstance(fact, kind)]


def community(
    *pools: Pool, backfills: tuple[Backfill, ...] = (), supply: int = 1_000_000_000, cap: int = CAP
) -> Community:
    """A founding document in which Ada and Ben are founders."""
    return Community(
        format="commons.genesis/1",
        name="Test commons",
        origin="commons.test",
        members=tuple(
            Founder(handle=handle, kind="human", key=public_key(handle[:1].encode() * 32)) for handle in ("ada", "ben")
        ),
        currency=Currency(
            cap=str(cap), initial_supply=str(supply), emission_per_epoch=str(EMISSION), distribution=tuple(pools)
        ),
        epochs=Epochs(zero="2026-01-01T00:00:00Z"),
        performance_tables=(),
        metering=MeteringRules(),
        backfills=backfills,
    )


def backfill(name: str, fund: int, pool_per_epoch: int) -> Backfill:
    return Backfill(
        name=name,
        start="2023-01-01T00:00:00Z",
        end="2023-06-01T00:00:00Z",
        node_count=1,
        nodes_sha256="0" * 64,
        sources=(),
        fund=str(fund),
        pool_per_epoch=str(pool_per_epoch),
    )
