"""What a genesis document will do, in rows a person can read before it becomes fact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from events.genesis import Community, Currency, Pool
from events.values import COMPUTE_DECIMALS, PPM, member_id
from services.kernel.directory import raw_key

BACKFILL_POOL: Final = "backfill-"
"""A distribution pool named so, plus a backfill's name, is that backfill's fund."""

_UNIT: Final = 10**COMPUTE_DECIMALS


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One line of the summary: which section, what, and its value in words."""

    section: str
    item: str
    value: str


def initial_amounts(currency: Currency) -> dict[str, int]:
    """Return each pool's base units: floors of the shares, the rest by largest remainder, ties by name.

    They sum to the initial supply exactly when the shares sum to 100 %.
    """
    supply = int(currency.initial_supply)
    amounts = {pool.name: supply * pool.share_ppm // PPM for pool in currency.distribution}
    by_remainder = sorted(currency.distribution, key=lambda pool: (-(supply * pool.share_ppm % PPM), pool.name))
    whole = supply * sum(pool.share_ppm for pool in currency.distribution) // PPM
    for pool in by_remainder[: whole - sum(amounts.values())]:
        amounts[pool.name] += 1
    return amounts


def summary(community: Community) -> list[SummaryRow]:
    """Return the rows of a sound document; call `check` first."""
    return [
        *_community(community),
        *_members(community),
        *_currency(community.currency),
        *_work(community),
    ]


def _community(community: Community) -> Iterator[SummaryRow]:
    yield SummaryRow("community", "name", community.name)
    yield SummaryRow("community", "origin", community.origin)
    yield SummaryRow("community", "pools", ", ".join(community.resources.offered))
    epochs = community.epochs
    yield SummaryRow(
        "community",
        "epochs",
        f"of {epochs.seconds} s from {epochs.zero}, closing {epochs.close_after_seconds} s after their end",
    )
    first = "only after its first challenges" if community.metering.challenge_first else "at once, at the floor of PF"
    yield SummaryRow("community", "a new node is active", first)


def _members(community: Community) -> Iterator[SummaryRow]:
    for founder in community.members:
        roles = ", ".join(founder.roles) or "no role"
        seat = ", on the board" if founder.handle in community.board.seats else ""
        member = member_id(raw_key(founder.key))
        yield SummaryRow("members", founder.handle, f"{founder.kind}, {roles}{seat} ({member})")


def _currency(currency: Currency) -> Iterator[SummaryRow]:
    def money(amount: int) -> str:
        return f"{amount // _UNIT}.{amount % _UNIT:06d} {currency.symbol}"

    yield SummaryRow("currency", "cap", money(int(currency.cap)))
    yield SummaryRow("currency", "initial supply", money(int(currency.initial_supply)))
    yield SummaryRow("currency", "emission per epoch", money(int(currency.emission_per_epoch)))
    amounts = initial_amounts(currency)
    for pool in currency.distribution:
        share = f"{pool.share_ppm // 10_000}.{pool.share_ppm % 10_000:04d} %"
        yield SummaryRow("distribution", pool.name, f"{money(amounts[pool.name])} ({share}) to {_receiver(pool)}")
    whole = sum(pool.share_ppm for pool in currency.distribution)
    total = f"{money(sum(amounts.values()))} ({whole // 10_000}.{whole % 10_000:04d} %)"
    yield SummaryRow("distribution", "sum of all pools", total)


def _receiver(pool: Pool) -> str:
    if pool.name.startswith(BACKFILL_POOL):
        return f"fund/{pool.name.removeprefix(BACKFILL_POOL)}"
    receiver = f"the member {pool.member}" if pool.member else f"pool/{pool.name}"
    if pool.vesting is None:
        return receiver
    days = pool.vesting.duration_seconds // 86_400, pool.vesting.cliff_seconds // 86_400
    return f"{receiver}, vesting over {days[0]} days with a cliff of {days[1]}"


def _work(community: Community) -> Iterator[SummaryRow]:
    for project in community.projects:
        quota = int(project.gpu_micro_rgpu_hours)
        value = f"{quota // PPM}.{quota % PPM:06d} reference-GPU-hours for {project.owner} ({project.size_class})"
        yield SummaryRow("quotas", project.slug, value)
    for pool in community.metering.sub_pools or ():
        share = f"{pool.share_ppm // 10_000}.{pool.share_ppm % 10_000:04d} % of every epoch's pool"
        yield SummaryRow("sub-pools", pool.kind, f"{share}, at most {pool.rate_cap} base units per unit-hour")
    for table in community.performance_tables:
        models = ", ".join(f"{entry.model} {entry.performance_factor}" for entry in table.entries)
        yield SummaryRow("performance tables", f"{table.work_class} version {table.version}", models)
    for backfill in community.backfills:
        value = f"{backfill.node_count} nodes, {backfill.start} to {backfill.end}, fund of {backfill.fund} base units"
        yield SummaryRow("backfills", backfill.name, value)
