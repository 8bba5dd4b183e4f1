"""Folding metering's own facts. Never refuses, never reads a clock: rules live in `decide` only."""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch

from immutables import Map

from events import metering
from events.catalog import Recorded
from events.envelope import Fact
from events.registry_terms import DeviceKind
from events.values import parse_units
from services.metering import closing, holding
from services.metering.batches import joined, read_batch
from services.metering.consumer import read_consumer_batch
from services.metering.energy import fold_energy
from services.metering.folding import Onto, fold, fold_batch
from services.metering.grid import Grid
from services.metering.kinds import kind_of
from services.metering.performance import micro
from services.metering.reliability import with_challenge
from services.metering.spools import fold_part
from services.metering.state import (
    Backfill,
    Booking,
    ClaimClass,
    Hour,
    LeaseState,
    Metering,
    Paid,
    Project,
    Result,
    Standing,
    Stated,
    mapped,
)
from services.metering.storage import fold_challenge, without_forgotten

RESULTS_KEPT = 1_000
"""Results kept per device: years of daily challenges, far more than any factor looks back."""


def evolve(state: Metering, recorded: Recorded) -> Metering:
    """Fold one fact."""
    return _apply(recorded.fact, state, recorded)


@singledispatch
def _apply(_fact: Fact, state: Metering, _recorded: Recorded) -> Metering:
    return state


@_apply.register
def _(fact: metering.RulesAdopted, state: Metering, _recorded: Recorded) -> Metering:
    live = fact.first_live_epoch
    return replace(
        state,
        rules=fact,
        grid=Grid(fact.epoch_zero_ms, fact.epoch_ms),
        first_live=live,
        next_live=max(live, state.next_live),
        next_settled=max(live, state.next_settled),
        first_kept=max(live, state.first_kept),
        first_booked=max(live, state.first_booked),
    )


@_apply.register
def _(fact: metering.TableAdopted, state: Metering, _recorded: Recorded) -> Metering:
    kind = fact.table.work_class
    return replace(state, tables=state.tables.set(kind, (*state.tables.get(kind, ()), fact)))


@_apply.register
def _(fact: metering.QuotaGranted, state: Metering, _recorded: Recorded) -> Metering:
    known = state.projects.get(fact.project)
    left: Map[DeviceKind, int] = known.left if known else Map()
    project = Project(fact.project, fact.owner, fact.guild, fact.size_class, fact.work_class, left)
    granted: dict[DeviceKind, str] = {
        "gpu": fact.gpu_micro_rgpu_hours,
        "cpu": fact.cpu_milli_core_hours,
        "storage": fact.storage_mb_hours or "0",
        "bandwidth": fact.bandwidth_mb or "0",
    }
    for kind, amount in granted.items():
        project = project.with_more(kind, parse_units(amount))
    return replace(state, projects=state.projects.set(fact.project, project))


@_apply.register
def _(fact: metering.BackfillNamed, state: Metering, _recorded: Recorded) -> Metering:
    first, last = state.grid.epoch_of(fact.start_ms), state.grid.epoch_of(fact.end_ms - 1)
    backfill = Backfill(
        fact.backfill,
        fact.start_ms,
        fact.end_ms,
        fact.node_count,
        fact.nodes_sha256,
        fact.sources,
        first,
        # Epochs from the founding on are live: they wait for the backfill, and emission pays them.
        min(last, state.first_live - 1),
        first,
    )
    return _with_backfill(state, backfill)


@_apply.register
def _(fact: metering.BackfillNodesNamed, state: Metering, _recorded: Recorded) -> Metering:
    known = state.backfills[fact.backfill]
    nodes = (*known.nodes, *fact.nodes) if fact.page else fact.nodes
    return _with_backfill(state, replace(known, pages=fact.page + 1, nodes=nodes))


@_apply.register
def _(fact: metering.BackfillOpened, state: Metering, _recorded: Recorded) -> Metering:
    known = state.backfills[fact.backfill]
    return _with_backfill(state, replace(known, opened=True, nodes=(), members=frozenset(known.nodes)))


@_apply.register
def _(fact: metering.BackfillClosed, state: Metering, _recorded: Recorded) -> Metering:
    return _with_backfill(state, replace(state.backfills[fact.backfill], closed=True))


def _with_backfill(state: Metering, backfill: Backfill) -> Metering:
    return replace(state, backfills=state.backfills.set(backfill.backfill, backfill))


@_apply.register
def _(fact: metering.LeasesOpened, state: Metering, _recorded: Recorded) -> Metering:
    leases, ending = state.leases.mutate(), state.ending
    project = state.projects[fact.project]
    for lease in fact.leases:
        leases[lease.lease] = LeaseState(lease, fact.project, lease.end_ms)
        epoch = closing.last_epoch(state, lease.start_ms, lease.end_ms)
        ending = ending.set(epoch, ending.get(epoch, frozenset()) | {lease.lease})
        project = project.with_more(lease.kind, -parse_units(lease.charged))
        state = _booked(state, lease)
    projects = state.projects.set(project.slug, project)
    return replace(state, leases=leases.finish(), ending=ending, projects=projects)


def booking(lease: metering.Lease) -> Booking:
    """Return what a lease promises away of its node's capacity."""
    return (lease.start_ms, lease.end_ms, lease.share, tuple(device.device for device in lease.devices), lease.lease)


def _booked(state: Metering, lease: metering.Lease) -> Metering:
    of = mapped(state.bookings, lease.kind)
    of = of.set(lease.node, (*of.get(lease.node, ()), booking(lease)))
    return replace(state, bookings=state.bookings.set(lease.kind, of))


@_apply.register
def _(fact: metering.LeaseCancelled, state: Metering, _recorded: Recorded) -> Metering:
    known = state.leases[fact.lease]
    lease = known.fact
    state = closing.without_bookings(state, [lease])
    if fact.at_ms > lease.start_ms:
        state = _booked(state, replace_end(lease, fact.at_ms))
    before = closing.last_epoch(state, lease.start_ms, known.end_ms)
    after = closing.last_epoch(state, lease.start_ms, fact.at_ms)
    ending = state.ending.set(before, state.ending.get(before, frozenset()) - {fact.lease})
    ending = ending.set(after, ending.get(after, frozenset()) | {fact.lease})
    project = state.projects[fact.project].with_more(lease.kind, parse_units(fact.refunded))
    return replace(
        state,
        leases=state.leases.set(fact.lease, replace(known, end_ms=fact.at_ms, cancelled=True)),
        ending=ending,
        projects=state.projects.set(project.slug, project),
    )


def replace_end(lease: metering.Lease, end_ms: int) -> metering.Lease:
    """Return the lease with another end."""
    fields = {name: getattr(lease, name) for name in lease.__struct_fields__}
    return metering.Lease(**{**fields, "end_ms": end_ms})


@_apply.register
def _(fact: metering.ReadingsRecorded, state: Metering, _recorded: Recorded) -> Metering:
    rejected = frozenset(index for indexes in (fact.rejected or {}).values() for index in indexes)
    whole = fact.spool.whole if fact.spool else False
    folded = fold_batch(Onto(state, fact.jws, rejected if whole else rejected.union(fact.late)))
    state = replace(state, usage=folded.usage, touched=state.touched | folded.closed)
    if energy := read_batch(fact.jws).energy:
        standing = [one for index, one in enumerate(energy) if index not in (fact.energy_rejected or ())]
        state = replace(state, energy=fold_energy(state, fact.node, standing))
    return fold_part(state, fact, rejected) if fact.spool else state


@_apply.register
def _(fact: metering.ConsumerReadingsRecorded, state: Metering, _recorded: Recorded) -> Metering:
    bad = {index for indexes in (fact.rejected or {}).values() for index in indexes}
    batch = read_consumer_batch(fact.jws)
    runs = joined(sorted(reading for index, reading in enumerate(batch.readings) if index not in bad))
    folded = fold(replace(state, usage=state.consumed), runs, batch.devices, batch.leases)
    # Where an epoch closes before its consumers could say all they read, the rest is late usage.
    return replace(state, consumed=folded.usage, touched=state.touched | folded.closed)


@_apply.register
def _(fact: metering.NodeAdopted, state: Metering, _recorded: Recorded) -> Metering:
    stated = Stated.by(fact)
    return replace(
        state,
        stated=state.stated.set(fact.node, (*state.stated.get(fact.node, ()), stated)),
        next_hour=state.next_hour or fact.from_hour,
    )


@_apply.register
def _(fact: metering.MaintenanceAnnounced, state: Metering, _recorded: Recorded) -> Metering:
    announced = range(fact.first_hour, fact.first_hour + fact.hours)
    known = state.maintenance.get(fact.node, frozenset())
    return replace(state, maintenance=state.maintenance.set(fact.node, known.union(announced)))


@_apply.register
def _(fact: metering.HeartbeatHourRecorded, state: Metering, _recorded: Recorded) -> Metering:
    hour = Hour(int(fact.minutes, 16), fact.spool_sha256)
    hours = mapped(state.hours, fact.node).set(fact.hour, hour)
    return replace(state, hours=state.hours.set(fact.node, hours))


@_apply.register
def _(fact: metering.ChallengeResultsRecorded, state: Metering, _recorded: Recorded) -> Metering:
    results, records = state.results, state.records
    trials: dict[tuple[str, str, DeviceKind], tuple[int, bool]] = {}
    for result, passed in zip(fact.results, fact.passed, strict=True):
        throughput = None if result.throughput is None else micro(result.throughput)
        kept = Result(result.end_ms, result.challenge, result.benchmark, result.work_class, throughput, passed)
        known = sorted((*results.get(result.device, ()), kept), key=_by_date)
        results = results.set(result.device, tuple(known[-RESULTS_KEPT:]))
        trial = result.device, result.challenge, kind_of(result.work_class)
        last, all_passed = trials.get(trial, (result.end_ms, True))
        trials[trial] = max(last, result.end_ms), all_passed and passed
    for (device, _, kind), (end_ms, passed) in trials.items():
        # A device's runs of one challenge are one trial, dated when the last of them ended.
        records = with_challenge(records, state.grid.tick_of(end_ms), device, fact.owner, passed=passed)
        state = holding.challenged(state, (kind, fact.node), device, end_ms, passed=passed)
    return replace(state, results=results, records=records)


@_apply.register
def _(fact: metering.StorageChallenged, state: Metering, _recorded: Recorded) -> Metering:
    state = fold_challenge(state, fact)
    return holding.challenged(state, ("storage", fact.node), fact.device, fact.end_ms, passed=fact.passed)


def _by_date(result: Result) -> tuple[int, str, str]:
    return (result.end_ms, result.challenge, result.benchmark)


@_apply.register
def _(fact: metering.ReliabilityChanged, state: Metering, _recorded: Recorded) -> Metering:
    standing = Standing(fact.after_ppm, fact.owner)
    return replace(state, standings=state.standings.set(fact.subject, standing))


@_apply.register
def _(fact: metering.EpochPaged | metering.LateUsageScored, state: Metering, _recorded: Recorded) -> Metering:
    if fact.epoch < state.first_live:
        return state
    return holding.held(_with_paid(state, fact.epoch, fact.nodes), fact)


@_apply.register
def _(fact: metering.HoldbackReleased | metering.HoldbackForfeited, state: Metering, _recorded: Recorded) -> Metering:
    return holding.ended(state, fact)


@_apply.register
def _(fact: metering.UsageDisputed | metering.DisputeEnded, state: Metering, _recorded: Recorded) -> Metering:
    return holding.disputed(state, fact)


def _with_paid(state: Metering, epoch: int, nodes: tuple[metering.NodeScore, ...]) -> Metering:
    paid = state.paid.get(epoch, Map()).mutate()
    for node in nodes:
        for score in node.devices:
            key: ClaimClass = (node.node, score.device, score.work_class)
            known = paid.get(key)
            paid[key] = Paid(
                int(score.share_milli_ms) + (known.share_milli_ms if known else 0),
                known.performance_factor if known else score.performance_factor,
                known.reliability_ppm if known else score.reliability_ppm,
            )
    return replace(state, paid=state.paid.set(epoch, paid.finish()))


@_apply.register
def _(fact: metering.EpochClosed, state: Metering, recorded: Recorded) -> Metering:
    return holding.cleared(without_forgotten(closing.after_close(state, fact, recorded.time_ms)))
