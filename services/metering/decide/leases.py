"""Opening and cancelling leases on a project's quota. The system picks the node."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from msgspec import UNSET

from events.metering import Lease, LeaseCancelled, LeasedDevice, LeasesOpened
from events.registry_terms import DeviceKind
from events.values import DAY_MS, units_text
from services.kernel.decider import Context, Decision, Emit
from services.kernel.errors import InvalidField
from services.metering.batches import MAX_LEVEL
from services.metering.commands import CancelLease, LeaseTerms, OpenLeases
from services.metering.errors import (
    DurationOutOfRange,
    LeaseOver,
    LeaseTaken,
    NoNodeSuits,
    NotProjectOwner,
    Oversubscribed,
    QuotaExhausted,
    StartOutOfRange,
    UnknownLease,
    UnknownProject,
)
from services.metering.kinds import CHARGES, WHOLE_DEVICE, names_devices
from services.metering.performance import FLOOR
from services.metering.placement import BYTES_PER_MB, Booked, Placed, Roll, place
from services.metering.scoring import factor_of
from services.metering.state import Backfill, Metering, Project, mapped

MAX_LEASES: Final = 50
MAX_DEVICES: Final = 64
MAX_BEFORE_MS: Final = 300_000
MAX_AHEAD_MS: Final = DAY_MS
MIN_DURATION_MS: Final = 60_000
MAX_DURATION_MS: Final = DAY_MS

_ROOT: Final = re.compile(r"[0-9a-f]{64}\Z")
_ID: Final = re.compile(r"[0-9a-f]{32}\Z")


@dataclass(slots=True)
class _Ledger:
    """What the leases before this one in the same bulk have taken already."""

    left: dict[DeviceKind, int]
    booked: dict[DeviceKind, Booked] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def promised(self, kind: DeviceKind, state: Metering) -> Booked:
        """Return what is promised of a kind, which this bulk adds to."""
        if kind not in self.booked:
            self.booked[kind] = Booked.from_state(mapped(state.bookings, kind))
        return self.booked[kind]


def open_leases(command: OpenLeases, state: Metering, context: Context) -> Decision:
    """Open 1..50 leases of one project, all or none, and answer where each was placed."""
    project = state.projects.get(command.project)
    if project is None:
        raise UnknownProject("there is no such project", project=command.project)
    if context.actor != project.owner:
        raise NotProjectOwner("only the project's owner spends its quota", project=project.slug)
    if not 1 <= len(command.leases) <= MAX_LEASES:
        raise InvalidField(f"a bulk has 1 to {MAX_LEASES} leases", field="leases", count=len(command.leases))
    ledger = _Ledger(dict(project.left))
    roll = Roll(context.directory.nodes)
    leases = tuple(_open(terms, project, state, context, roll, ledger) for terms in command.leases)
    fact = LeasesOpened(project.slug, project.owner, leases, command.authorization)
    answer = {
        "project": project.slug,
        "leases": [
            {
                "lease": lease.lease,
                "node": lease.node,
                "devices": [device.device for device in lease.devices],
                "charged": lease.charged,
                "linked": lease.linked,
            }
            for lease in leases
        ],
    }
    return Decision([Emit(f"project/{project.slug}", fact)], answer)


def _open(
    terms: LeaseTerms,
    project: Project,
    state: Metering,
    context: Context,
    roll: Roll,
    ledger: _Ledger,
) -> Lease:
    _check_form(terms)
    if terms.lease in state.leases or terms.lease in ledger.taken:
        raise LeaseTaken("the lease id is in use", lease=terms.lease)
    if terms.renews is not None:
        renewed = state.leases.get(terms.renews)
        if renewed is None or renewed.project != project.slug:
            raise UnknownLease("the lease to renew is none of this project's", lease=terms.renews)
    backfill = _backfill(terms, state, context.time_ms)
    _check_times(terms, backfill, state, context.time_ms)
    booked, named = ledger.promised(terms.kind, state), names_devices(state, terms.kind)
    placed, suited = place(terms, roll, booked, backfill.members if backfill else None, named=named)
    if placed is None:
        if suited:
            raise Oversubscribed("no node has room for the lease over its whole interval", lease=terms.lease)
        raise NoNodeSuits("no active node suits the lease", lease=terms.lease)
    charge = _charge(terms, placed, project, state, ledger)
    booking = (terms.start_ms, terms.end_ms, terms.share, tuple(name for name, _ in placed.devices), terms.lease)
    booked.add(placed.node, booking)
    ledger.taken.add(terms.lease)
    return Lease(
        terms.lease,
        terms.kind,
        placed.node,
        context.directory.nodes[placed.node].owner,
        tuple(LeasedDevice(device, model) for device, model in placed.devices),
        terms.share,
        terms.start_ms,
        terms.end_ms,
        project.work_class if terms.kind == "gpu" or not placed.devices else terms.kind,
        units_text(charge),
        _linked(project, placed.node, context),
        backfill.backfill if backfill else None,
        terms.renews,
        None,
        placed.whole if terms.kind != "gpu" and placed.devices else UNSET,
        terms.content or UNSET,
    )


def _check_form(terms: LeaseTerms) -> None:
    if not _ID.match(terms.lease):
        raise InvalidField("a lease id is 32 hex digits", field="lease", lease=terms.lease[:64])
    if terms.kind == "gpu":
        if not 1 <= terms.devices <= MAX_DEVICES:
            raise InvalidField(f"a lease spans 1 to {MAX_DEVICES} devices", field="devices", lease=terms.lease)
        if terms.share > WHOLE_DEVICE:
            raise Oversubscribed("a share is at most the whole device", lease=terms.lease, share=terms.share)
    elif terms.devices or terms.models:
        raise InvalidField("only leases of GPUs name how many devices and of which models", field="devices")
    elif terms.share > MAX_LEVEL:
        raise InvalidField(f"a share is at most {MAX_LEVEL}", field="share", lease=terms.lease)
    if terms.share < 1:
        raise InvalidField("a share is at least 1", field="share", lease=terms.lease)
    _check_content(terms)


def _check_content(terms: LeaseTerms) -> None:
    """Refuse storage of nothing in particular: what is held has to be provable from the lease alone."""
    content = terms.content
    if (content is None) == (terms.kind == "storage"):
        raise InvalidField("a lease of storage names its content, and no other does", field="content")
    if content is None:
        return
    if not _ROOT.match(content.root):
        raise InvalidField("a root is 64 hex digits", field="content", lease=terms.lease)
    if content.bytes < 1 or terms.share != -(-content.bytes // BYTES_PER_MB):
        raise InvalidField("a share of storage is its content's MB, rounded up", field="share", lease=terms.lease)


def _backfill(terms: LeaseTerms, state: Metering, now_ms: int) -> Backfill | None:
    """Return the open backfill whose history the lease is; a lease that may still start now is none."""
    if terms.start_ms >= now_ms - MAX_BEFORE_MS:
        return None
    for known in state.backfills.values():
        if known.is_open and known.start_ms <= terms.start_ms < known.end_ms:
            return known
    return None


def _check_times(terms: LeaseTerms, backfill: Backfill | None, state: Metering, now_ms: int) -> None:
    duration = terms.end_ms - terms.start_ms
    if backfill is not None:
        # History in a live epoch would be paid by emission, and a backfill never pays from a live pool.
        if duration <= 0 or terms.end_ms > min(backfill.end_ms, state.grid.start(state.first_live)):
            raise DurationOutOfRange(
                "a lease of a backfill ends after it starts, inside the span, before the first live epoch",
                lease=terms.lease,
            )
        return
    if not now_ms - MAX_BEFORE_MS <= terms.start_ms <= now_ms + MAX_AHEAD_MS:
        raise StartOutOfRange(
            "a lease starts at most 5 minutes before it is recorded and a day ahead",
            lease=terms.lease,
            start_ms=terms.start_ms,
            now_ms=now_ms,
        )
    if not MIN_DURATION_MS <= duration <= MAX_DURATION_MS:
        raise DurationOutOfRange("a lease lasts 60 s to 24 h", lease=terms.lease, duration_ms=duration)


def _charge(terms: LeaseTerms, placed: Placed, project: Project, state: Metering, ledger: _Ledger) -> int:
    """Return what the quota pays, rounded up, and take it. A device never costs less than at the floor of PF."""
    work, kind = terms.share * (terms.end_ms - terms.start_ms), terms.kind
    if kind == "gpu":
        of, at_ms = project.work_class, terms.start_ms
        work *= sum(max(FLOOR, factor_of(state, name, model, of, at_ms)) for name, model in placed.devices)
    charge, left = -(-work // CHARGES[kind]), ledger.left.get(kind, 0)
    ledger.left[kind] = left - charge
    if charge > left:
        raise QuotaExhausted(
            "the project's quota does not cover the lease", lease=terms.lease, needed=str(charge), left=str(left)
        )
    return charge


def _linked(project: Project, node_id: str, context: Context) -> Literal["owner", "key", "guild"] | None:
    """Return what consumer and provider share, if anything: such a lease is shown and earns 0."""
    directory = context.directory
    node = directory.nodes[node_id]
    if node.owner == project.owner:
        return "owner"
    consumer, provider = directory.members.get(project.owner), directory.members.get(node.owner)
    if consumer and (consumer.kid == node.kid or (provider and consumer.kid == provider.kid)):
        return "key"
    guilds = {project.guild, consumer.guild if consumer else None} - {None}
    if provider and provider.guild in guilds:
        return "guild"
    return None


def cancel_lease(command: CancelLease, state: Metering, context: Context) -> Decision:
    """End a live lease now; the unused part of its charge, rounded down, returns to the quota."""
    known = state.leases.get(command.lease)
    if known is None:
        raise UnknownLease("there is no such lease", lease=command.lease)
    project = state.projects[known.project]
    if context.actor != project.owner:
        raise NotProjectOwner("only the project's owner ends its leases", project=project.slug)
    lease = known.fact
    at_ms = max(context.time_ms, lease.start_ms)
    if known.cancelled or lease.backfill is not None or at_ms >= known.end_ms:
        raise LeaseOver("the lease has ended, was cancelled, or is history", lease=command.lease)
    unused, whole = known.end_ms - at_ms, lease.end_ms - lease.start_ms
    refunded = units_text(int(lease.charged) * unused // whole)
    fact = LeaseCancelled(project.slug, command.lease, at_ms, refunded, command.authorization)
    return Decision(
        [Emit(f"project/{project.slug}", fact)], {"lease": command.lease, "at_ms": at_ms, "refunded": refunded}
    )
