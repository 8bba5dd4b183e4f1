"""Recording the consumer's side of leases: one signed batch of a project's owner, one fact."""

from __future__ import annotations

from events.metering import ConsumerReadingsRecorded, RejectionCode
from services.kernel.decider import Context, Decision, Emit
from services.metering.batches import Reading, form_code
from services.metering.commands import RecordConsumerReadings
from services.metering.consumer import ConsumerBatch, interval_code, read_consumer_batch
from services.metering.decide.readings import MAX_AHEAD_MS
from services.metering.errors import NoReadingStands, NotProjectOwner, UnknownProject
from services.metering.kinds import is_metered, most_level
from services.metering.state import Metering


def record_consumer_readings(command: RecordConsumerReadings, state: Metering, context: Context) -> Decision:
    """Record a batch with what was wrong in it. Raises UnknownProject, NotProjectOwner, NoReadingStands."""
    batch = read_consumer_batch(command.jws)
    project = state.projects.get(batch.project)
    if project is None:
        raise UnknownProject("there is no such project", project=batch.project)
    if context.actor != project.owner:
        raise NotProjectOwner("a project's owner signs its consumer readings", project=project.slug)
    rejected: dict[RejectionCode, tuple[int, ...]] = {}
    for index, reading in enumerate(batch.readings):
        code = _code(batch, reading, state, context.time_ms)
        if code is not None:
            rejected[code] = (*rejected.get(code, ()), index)
    if sum(map(len, rejected.values())) == len(batch.readings):
        raise NoReadingStands("every reading of the batch is bad", rejected=rejected)
    fact = ConsumerReadingsRecorded(
        project.slug,
        context.actor,
        batch.batch,
        batch.number,
        len(batch.readings),
        command.jws,
        dict(sorted(rejected.items())) or None,
    )
    answer = {"batch": fact.batch, "readings": fact.readings, "rejected": fact.rejected or {}}
    return Decision([Emit(f"project/{project.slug}", fact)], answer)


def _code(batch: ConsumerBatch, reading: Reading, state: Metering, now_ms: int) -> RejectionCode | None:
    code = form_code(reading, len(batch.devices), len(batch.leases))
    if code is not None:
        return code
    lease = state.leases.get(batch.leases[reading[1]])
    if lease is None or lease.project != batch.project:
        return "unknown-lease"
    if not is_metered(lease, batch.devices[reading[0]]):
        return "device-not-leased"
    if reading[4] > most_level(lease.fact):
        return "level-out-of-range"
    return interval_code(lease, reading, now_ms, MAX_AHEAD_MS)
