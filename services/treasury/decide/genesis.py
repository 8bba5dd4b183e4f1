"""The initial distribution: what the founding document gives to pools, members and backfills, to the last unit."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

from events.envelope import Fact
from events.genesis import Community, Pool
from events.treasury import AccountKind, AccountOpened, AssetDefined, FundOpened, SupplyMinted, VestingSchedule
from events.values import PPM, ValueRefused, member_id, parse_units
from services.kernel.decider import Context, Decision, Emit
from services.kernel.directory import raw_key
from services.treasury import names
from services.treasury.commands import AdoptGenesis
from services.treasury.errors import BookAlreadyDefined, DistributionInconsistent
from services.treasury.shares import largest_remainder
from services.treasury.state import Book


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a pool's share goes."""

    account: str
    owner: str
    kind: AccountKind
    vests: bool = False


def adopt_genesis(command: AdoptGenesis, state: Book, _context: Context) -> Decision:
    """Define the book's asset, open the accounts of the distribution and mint it.

    Raises BookAlreadyDefined, DistributionInconsistent.
    """
    if state.asset is not None:
        raise BookAlreadyDefined(f"the book of {state.asset.symbol} is defined")
    community = command.community
    try:
        facts = [_asset(community), *_distribution(command, state)]
    except ValueRefused as error:
        raise DistributionInconsistent(f"an amount of the document does not parse: {error}") from error
    stream = names.book(community.currency.symbol)
    return Decision([Emit(stream, fact) for fact in facts], {"symbol": community.currency.symbol})


def _asset(community: Community) -> Fact:
    currency, rules = community.currency, community.metering
    pools = rules.sub_pools or ()
    caps = (rules.rate_cap_per_rgpu_hour, *(pool.rate_cap for pool in pools))
    for amount in (currency.cap, currency.emission_per_epoch, *caps):
        if parse_units(amount) < 0:
            raise DistributionInconsistent("cap, emission and rate cap are not below zero", amount=amount)
    if parse_units(currency.initial_supply) > parse_units(currency.cap):
        raise DistributionInconsistent("the initial supply is above the cap")
    if pools and (sum(pool.share_ppm for pool in pools) != PPM or any(pool.share_ppm < 0 for pool in pools)):
        raise DistributionInconsistent("the shares of the sub-pools do not sum to exactly 100 %")
    if len({pool.kind for pool in pools}) != len(pools):
        raise DistributionInconsistent("two sub-pools are of one kind")
    if not 0 <= (rules.holdback_ppm or 0) <= PPM:
        raise DistributionInconsistent("the holdback is a part of a reward, 0 to 1,000,000 ppm")
    return AssetDefined(
        currency.symbol,
        currency.decimals,
        currency.cap,
        currency.emission_per_epoch,
        rules.late_reserve_ppm,
        rules.late_reserve_days,
        rules.rate_cap_per_rgpu_hour,
        rules.sub_pools,
        rules.holdback_ppm,
    )


def _amounts(community: Community) -> dict[str, int]:
    """Return base units by pool name; they sum to the initial supply exactly."""
    pools = community.currency.distribution
    if sum(pool.share_ppm for pool in pools) != PPM or any(pool.share_ppm < 0 for pool in pools):
        raise DistributionInconsistent("the shares do not sum to exactly 100 %")
    if len({pool.name for pool in pools}) != len(pools):
        raise DistributionInconsistent("two pools have one name")
    supply = parse_units(community.currency.initial_supply)
    parts = largest_remainder(supply, [(pool.name, pool.share_ppm) for pool in pools])
    return {pool.name: part for pool, part in zip(pools, parts, strict=True)}


def _distribution(command: AdoptGenesis, state: Book) -> Iterator[Fact]:
    """Yield the facts that open each pool's account and mint its share."""
    community = command.community
    members = {founder.handle: member_id(raw_key(founder.key)) for founder in community.members}
    amounts = _amounts(community)
    backfills = {names.BACKFILL_POOL + backfill.name: backfill for backfill in community.backfills}
    opened = set(state.accounts)
    for pool in community.currency.distribution:
        amount = amounts[pool.name]
        place = _place(pool, members, backfills.keys())
        if place.account not in opened:
            opened.add(place.account)
            schedule = _schedule(pool, amount, command.founded_ms) if place.vests else None
            yield AccountOpened(place.account, place.owner, place.kind, vesting=schedule)
        if amount:
            yield SupplyMinted(place.account, str(amount), "genesis")
    if names.EMISSION_RESERVE not in opened:
        yield AccountOpened(names.EMISSION_RESERVE, names.COMMUNITY, "pool")
    for name, backfill in backfills.items():
        if amounts.get(name, 0) != parse_units(backfill.fund):
            raise DistributionInconsistent("a backfill's fund is not its pool's share", backfill=backfill.name)
        account = names.fund(backfill.name)
        if account not in opened:
            yield AccountOpened(account, names.COMMUNITY, "pool")
        yield FundOpened(backfill.name, account, backfill.pool_per_epoch)


def _place(pool: Pool, members: dict[str, str], funds: Container[str]) -> _Place:
    """Return where a pool's share goes: a backfill's fund, a member (vesting or not), or a pool of the community."""
    if pool.name in funds:
        return _Place(names.fund(pool.name.removeprefix(names.BACKFILL_POOL)), names.COMMUNITY, "pool")
    if pool.member is None:
        return _Place(names.pool(pool.name), names.COMMUNITY, "pool", pool.vesting is not None)
    member = members.get(pool.member)
    if member is None:
        raise DistributionInconsistent("a pool names a member the document does not", member=pool.member)
    if pool.vesting is None:
        return _Place(member, member, "member")
    return _Place(names.vesting(pool.name), member, "vesting", vests=True)


def _schedule(pool: Pool, amount: int, founded_ms: int) -> VestingSchedule | None:
    if pool.vesting is None:
        return None
    return VestingSchedule(str(amount), founded_ms, pool.vesting.cliff_seconds, pool.vesting.duration_seconds)
