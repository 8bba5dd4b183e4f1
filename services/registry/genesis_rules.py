"""The rules of each section of a genesis document. Every function yields problems as `path: sentence`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from msgspec import UNSET

from events.genesis import Chain, Community, Currency, Epochs, MeteringRules, Pool, maintenance_hours
from events.registry_terms import PublicKey, Role
from events.values import PPM, is_slug
from services.kernel.ethereum import is_address
from services.registry.genesis_summary import BACKFILL_POOL
from services.registry.genesis_values import (
    NAME_CHARACTERS,
    SAFE_INTEGER,
    amount_problems,
    instant_problems,
    repeated,
    slug_problems,
    subset_problems,
    text_problems,
    units,
)
from services.registry.keys import key_problem

_SYMBOL: Final = re.compile(r"[A-Z][A-Z0-9]{1,11}\Z")
MOST_GRAMS_PER_KWH: Final = 10_000
HOURS_OF_30_DAYS: Final = 720
SECONDS_OF_A_DAY: Final = 86_400
FIRST_YEAR: Final = 1990
LAST_YEAR: Final = 2100
_FOUNDING_ROLES: Final[tuple[Role, ...]] = ("operator", "steward")


def name_problems(community: Community) -> Iterator[str]:
    """Judge name and origin: they stand in every fact."""
    yield from text_problems("name", community.name, NAME_CHARACTERS)
    if not is_slug(community.origin):
        yield f"origin: {community.origin[:80]!r} is not a lower-case name like commons.example.org"


def member_problems(community: Community) -> Iterator[str]:
    """Judge founders, their roles and the board."""
    handles = [founder.handle for founder in community.members]
    yield from slug_problems("members", "handle", handles)
    for index, founder in enumerate(community.members):
        if founder.guild is not None and not is_slug(founder.guild):
            yield f"members[{index}].guild: {founder.guild[:80]!r} is not a lower-case name"
        for role in repeated(founder.roles):
            yield f"members[{index}].roles: {role} stands twice"
    for role in _FOUNDING_ROLES:
        if not any(role in founder.roles for founder in community.members):
            yield f"members: nobody is {role}; a community starts with at least one"
    board = community.board
    yield from subset_problems("board.seats", board.seats, handles, "a member's handle")
    yield from subset_problems("board.non_technical", board.non_technical, board.seats, "one of the board's seats")
    members = {founder.handle: founder for founder in community.members}
    for handle in board.seats:
        if handle in members and "board-member" not in members[handle].roles:
            yield f"board.seats: {handle} sits on the board without the role board-member"


def key_problems(community: Community) -> Iterator[str]:
    """Judge all keys: well-formed and nobody's twice."""
    keys: list[tuple[str, PublicKey]] = [
        *((f"members[{index}].key", founder.key) for index, founder in enumerate(community.members)),
        *((f"log_keys[{index}]", key) for index, key in enumerate(community.log_keys)),
        *((f"service_keys[{index}]", key) for index, key in enumerate(community.service_keys)),
    ]
    first: dict[str, str] = {}
    for path, key in keys:
        problem = key_problem(key)
        if problem is not None:
            yield f"{path}: {problem}"
        elif key.kid in first:
            yield f"{path}: the same key stands at {first[key.kid]}"
        else:
            first[key.kid] = path


def chain_problems(chain: Chain) -> Iterator[str]:
    """Judge what wallets' signatures are bound to."""
    if not 0 < chain.chain_id <= SAFE_INTEGER:
        yield f"chain.chain_id: {chain.chain_id} is not an id from 1 to {SAFE_INTEGER}"
    if not is_address(chain.contract):
        yield f"chain.contract: {chain.contract[:80]!r} is not an address in EIP-55 spelling"


def project_problems(community: Community) -> Iterator[str]:
    """Judge consumers and the quotas genesis gives them."""
    handles = {founder.handle for founder in community.members}
    yield from slug_problems("projects", "slug", [project.slug for project in community.projects])
    for index, project in enumerate(community.projects):
        if project.owner not in handles:
            yield f"projects[{index}].owner: {project.owner[:80]!r} is not a member's handle"
        for name in ("gpu_micro_rgpu_hours", "cpu_milli_core_hours", "storage_mb_hours", "bandwidth_mb"):
            if (amount := getattr(project, name)) is not UNSET:
                yield from amount_problems(f"projects[{index}].{name}", amount)


def currency_problems(currency: Currency, community: Community) -> Iterator[str]:
    """Judge the asset: shares sum to exactly 100 %, nothing passes the cap, every pool has somewhere to go."""
    if not _SYMBOL.match(currency.symbol):
        yield f"currency.symbol: {currency.symbol[:80]!r} is not 2 to 12 capital letters and digits"
    yield from amount_problems("currency.cap", currency.cap, least=1)
    for name in ("initial_supply", "emission_per_epoch"):
        problems = list(amount_problems(f"currency.{name}", getattr(currency, name)))
        yield from problems
        if not problems and units(currency.cap) is not None and int(getattr(currency, name)) > int(currency.cap):
            yield f"currency.{name}: {getattr(currency, name)} is above the cap of {currency.cap}"
    total = sum(pool.share_ppm for pool in currency.distribution)
    if total != PPM:
        yield f"currency.distribution: shares sum to {total} ppm ({_percent(total)}), not {PPM} ppm (100 %)"
    yield from slug_problems("currency.distribution", "name", [pool.name for pool in currency.distribution])
    handles = {founder.handle for founder in community.members}
    backfills = {backfill.name for backfill in community.backfills}
    for index, pool in enumerate(currency.distribution):
        yield from _pool(f"currency.distribution[{index}]", pool, handles, backfills)


def _pool(path: str, pool: Pool, handles: set[str], backfills: set[str]) -> Iterator[str]:
    if not 0 < pool.share_ppm <= PPM:
        yield f"{path}.share_ppm: {pool.share_ppm} is not a share from 1 to {PPM} ppm"
    if pool.member is not None and pool.member not in handles:
        yield f"{path}.member: {pool.member[:80]!r} is not a member's handle"
    vesting = pool.vesting
    if vesting is not None and not 0 <= vesting.cliff_seconds <= vesting.duration_seconds > 0:
        yield f"{path}.vesting: the cliff lies within the duration, and the duration above 0"
    if pool.name.startswith(BACKFILL_POOL):
        if pool.name.removeprefix(BACKFILL_POOL) not in backfills:
            yield f"{path}.name: {pool.name} names no backfill of this document"
        if pool.member is not None or vesting is not None:
            yield f"{path}: the fund of a backfill has neither member nor vesting"
    if pool.name == "emission-reserve" and (pool.member is not None or vesting is not None):
        yield f"{path}: the emission reserve has neither member nor vesting"


def epoch_problems(epochs: Epochs) -> Iterator[str]:
    """Judge the grid of settlement periods."""
    yield from instant_problems("epochs.zero", epochs.zero)
    if not 0 < epochs.seconds <= SAFE_INTEGER // 1_000_000:
        yield f"epochs.seconds: {epochs.seconds} is not a length above 0"
    if not 0 <= epochs.close_after_seconds <= SAFE_INTEGER // 1_000_000:
        yield f"epochs.close_after_seconds: {epochs.close_after_seconds} is negative or too long"


def rule_problems(community: Community) -> Iterator[str]:
    """Judge parameters of metering, the minimums and the edge's limits."""
    metering, resources = community.metering, community.resources
    yield from amount_problems("metering.rate_cap_per_rgpu_hour", metering.rate_cap_per_rgpu_hour, least=1)
    if not 0 <= metering.late_reserve_ppm <= PPM:
        yield f"metering.late_reserve_ppm: {metering.late_reserve_ppm} is not a share from 0 to {PPM} ppm"
    if not 0 <= metering.late_reserve_days <= 3_650:  # noqa: PLR2004 - ten years
        yield f"metering.late_reserve_days: {metering.late_reserve_days} is not a number of days up to 3650"
    yield from _consumer_problems(metering, community.epochs)
    yield from _hour_and_carbon_problems(metering)
    if not resources.offered:
        yield "resources.offered: nothing; a community pools at least one kind of resource"
    for kind in repeated(resources.offered):
        yield f"resources.offered: {kind} stands twice"
    for name in resources.minimums.__struct_fields__:
        most = 24 if name == "gpu_hours_per_day" else SAFE_INTEGER
        if not 0 <= getattr(resources.minimums, name) <= most:
            yield f"resources.minimums.{name}: {getattr(resources.minimums, name)} does not lie in 0..{most}"
    for name in community.limits.__struct_fields__:
        if not 0 < getattr(community.limits, name) <= SAFE_INTEGER:
            yield f"limits.{name}: {getattr(community.limits, name)} is not a limit above 0"


def _consumer_problems(metering: MeteringRules, epochs: Epochs) -> Iterator[str]:
    if metering.consumer_readings_from is None:
        return
    yield from instant_problems("metering.consumer_readings_from", metering.consumer_readings_from)
    if epochs.close_after_seconds < SECONDS_OF_A_DAY:
        yield "epochs.close_after_seconds: at least a day where consumer readings are mandatory"


def _hour_and_carbon_problems(metering: MeteringRules) -> Iterator[str]:
    if not 0 <= maintenance_hours(metering) <= HOURS_OF_30_DAYS:
        yield f"metering.maintenance_hours_per_30_days: does not lie in 0..{HOURS_OF_30_DAYS}"
    factors = metering.carbon_factors or ()
    for zone in repeated([factor.zone for factor in factors]):
        yield f"metering.carbon_factors: {zone} stands twice"
    for index, factor in enumerate(factors):
        path = f"metering.carbon_factors[{index}]"
        for name in ("zone", "id", "method"):
            yield from text_problems(f"{path}.{name}", getattr(factor, name), NAME_CHARACTERS)
        if not 0 <= factor.low <= factor.grams_per_kwh <= factor.high <= MOST_GRAMS_PER_KWH:
            yield f"{path}: the factor lies in its range, from 0 to {MOST_GRAMS_PER_KWH} grams per kWh"
        if not FIRST_YEAR <= factor.year <= LAST_YEAR:
            yield f"{path}.year: {factor.year} is not a year from {FIRST_YEAR} to {LAST_YEAR}"


def _percent(ppm: int) -> str:
    sign, whole = "-" if ppm < 0 else "", abs(ppm)
    return f"{sign}{whole // 10_000}.{whole % 10_000:04d} %"
