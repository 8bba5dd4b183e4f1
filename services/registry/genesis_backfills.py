"""The rules of backfills in a genesis document (METERING "Backfill")."""

from __future__ import annotations

from collections.abc import Iterator

from events.genesis import Backfill, Community, Currency, Epochs
from events.values import PPM
from services.registry.genesis_rules import epoch_problems
from services.registry.genesis_summary import BACKFILL_POOL, initial_amounts
from services.registry.genesis_values import (
    NAME_CHARACTERS,
    SAFE_INTEGER,
    SHA256,
    amount_problems,
    instant_ms,
    instant_problems,
    repeated,
    slug_problems,
    text_problems,
    units,
)


def backfill_problems(community: Community) -> Iterator[str]:
    """Judge older history: its span, its sources, its own fund out of the initial distribution, its epochs its own."""
    yield from slug_problems("backfills", "name", [backfill.name for backfill in community.backfills])
    for index, backfill in enumerate(community.backfills):
        path = f"backfills[{index}]"
        yield from _span(path, backfill, community.epochs)
        if not 0 < backfill.node_count <= SAFE_INTEGER:
            yield f"{path}.node_count: {backfill.node_count} is not a count above 0"
        if not SHA256.match(backfill.nodes_sha256):
            yield f"{path}.nodes_sha256: not 64 lower-case hex digits"
        yield from _sources(path, backfill)
        yield from _fund(path, backfill, community.currency)
    yield from _shared_epochs(community)


def _span(path: str, backfill: Backfill, epochs: Epochs) -> Iterator[str]:
    problems = [*instant_problems(f"{path}.start", backfill.start), *instant_problems(f"{path}.end", backfill.end)]
    yield from problems
    if problems:
        return
    if instant_ms(backfill.start) >= instant_ms(backfill.end):
        yield f"{path}: the span {backfill.start}..{backfill.end} is empty"
    if not list(instant_problems("", epochs.zero)) and instant_ms(backfill.start) < instant_ms(epochs.zero):
        yield f"{path}.start: {backfill.start} lies before epoch zero, {epochs.zero}"


def _sources(path: str, backfill: Backfill) -> Iterator[str]:
    if not backfill.sources:
        yield f"{path}.sources: no source; history is taken from files named by their sha256"
    for name in repeated(source.name for source in backfill.sources):
        yield f"{path}.sources: {name} stands twice"
    for index, source in enumerate(backfill.sources):
        yield from text_problems(f"{path}.sources[{index}].name", source.name, NAME_CHARACTERS)
        if not SHA256.match(source.sha256):
            yield f"{path}.sources[{index}].sha256: not 64 lower-case hex digits"


def _fund(path: str, backfill: Backfill, currency: Currency) -> Iterator[str]:
    problems = [
        *amount_problems(f"{path}.fund", backfill.fund, least=1),
        *amount_problems(f"{path}.pool_per_epoch", backfill.pool_per_epoch, least=1),
    ]
    yield from problems
    if problems:
        return
    if int(backfill.pool_per_epoch) > int(backfill.fund):
        yield f"{path}.pool_per_epoch: {backfill.pool_per_epoch} is above the fund of {backfill.fund}"
    name = f"{BACKFILL_POOL}{backfill.name}"
    if units(currency.initial_supply) is None or sum(pool.share_ppm for pool in currency.distribution) != PPM:
        return
    amount = initial_amounts(currency).get(name)
    if amount is None:
        yield f"{path}.fund: currency.distribution has no pool {name} to pay it from"
    elif amount != int(backfill.fund):
        yield f"{path}.fund: {backfill.fund} differs from the {amount} of the pool {name}"


def _shared_epochs(community: Community) -> Iterator[str]:
    """Judge spans together: one epoch has one payer, so no two backfills may touch the same epoch."""
    if list(epoch_problems(community.epochs)):
        return
    zero, length = instant_ms(community.epochs.zero), community.epochs.seconds * 1_000
    last_name, last_epoch = "", -1
    spans = sorted(
        (instant_ms(backfill.start), instant_ms(backfill.end), backfill.name)
        for backfill in community.backfills
        if not list(_span("", backfill, community.epochs))
    )
    for start, end, name in spans:
        if (start - zero) // length <= last_epoch:
            yield f"backfills: {last_name} and {name} touch the same epoch, which only one fund can pay"
        last_name, last_epoch = name, max(last_epoch, (end - 1 - zero) // length)
