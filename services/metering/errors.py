"""Metering's refusals, named for the rule.

Refusal
|-- NotAdopted               genesis has not reached metering yet
|-- UnknownProject, UnknownBackfill, UnknownNode, UnknownDevice, UnknownLease
|-- NotProjectOwner          only a project's owner spends its quota
|-- LeaseRefused             a lease breaks a rule; `lease` names it
|   |-- LeaseTaken, StartOutOfRange, DurationOutOfRange, QuotaExhausted, NoNodeSuits, Oversubscribed, LeaseOver
|-- NotThisNode              a batch or result of another node
|-- NoReadingStands          every reading of a batch is bad; `rejected` maps codes to indexes
|-- NotNodeOwner             only a node's owner announces its maintenance
|-- HeartbeatOutOfTime       a heartbeat comes within two minutes of its minute's begin
|-- HeartbeatHourOutOfTime, HeartbeatHourKnown
|-- MaintenanceTooLate, MaintenanceCapReached
|-- SpoolPartUnproved        a late batch needs the hour's hash recorded in time; `expected` is what was recorded
|-- TooManyOpenSpools
|-- BackfillNotOpen, BackfillAlreadyOpen, BackfillNodesMismatch, PageOutOfOrder, SpansOverlap
|-- ResultOutOfRange, ResultKnown, UnknownBenchmark, WrongModel, OwnNodeChallenged
|-- LeaseKeepsNothing        only a storage lease has content that a node can be asked for
|-- NothingHeld, NotADisputant ... those of holdback and disputes stand in `dispute_errors`
|-- EpochNotOver, EpochOutOfOrder
"""

from __future__ import annotations

from services.kernel.errors import Refusal


class NotAdopted(Refusal):
    """Genesis has not reached metering yet."""

    slug = "metering-not-adopted"
    title = "Metering has no rules yet"


class UnknownProject(Refusal):
    """There is no such project."""

    slug = "unknown-project"
    title = "Unknown project"


class UnknownBackfill(Refusal):
    """There is no such backfill."""

    slug = "unknown-backfill"
    title = "Unknown backfill"


class UnknownNode(Refusal):
    """The registry knows no such node, or it is retired."""

    slug = "unknown-node"
    title = "Unknown node"


class UnknownDevice(Refusal):
    """The node has no such device."""

    slug = "unknown-device"
    title = "Unknown device"


class UnknownLease(Refusal):
    """There is no such lease."""

    slug = "unknown-lease"
    title = "Unknown lease"


class NotProjectOwner(Refusal):
    """Only a project's owner spends its quota."""

    slug = "not-project-owner"
    title = "Not the project's owner"


class LeaseRefused(Refusal):
    """A lease breaks a rule; `lease` names it. None of its bulk is opened."""

    slug = "lease-refused"
    title = "Lease refused"


class LeaseTaken(LeaseRefused):
    """The lease id is in use."""

    slug = "lease-taken"
    title = "Lease id already in use"


class StartOutOfRange(LeaseRefused):
    """A lease starts at most 5 minutes before it is recorded and a day ahead, or inside an open backfill."""

    slug = "lease-start-out-of-range"
    title = "Lease start out of range"


class DurationOutOfRange(LeaseRefused):
    """A lease lasts 60 s to 24 h; in a backfill it ends inside the span and before the first live epoch."""

    slug = "lease-duration-out-of-range"
    title = "Lease duration out of range"


class QuotaExhausted(LeaseRefused):
    """The project's quota does not cover the lease; `needed` and `left` are in its unit."""

    slug = "quota-exhausted"
    title = "Quota exhausted"


class NoNodeSuits(LeaseRefused):
    """No active node has such devices in a window that covers the lease."""

    slug = "no-node-suits"
    title = "No node suits"


class Oversubscribed(LeaseRefused):
    """Every suitable node would pass 1000 milli on a device (or its milli-cores) at some instant."""

    slug = "oversubscribed"
    title = "Capacity oversubscribed"


class LeaseOver(LeaseRefused):
    """The lease has ended, was cancelled, or is history."""

    slug = "lease-over"
    title = "Lease is over"


class NotThisNode(Refusal):
    """The actor is not the node that the batch or result names."""

    slug = "not-this-node"
    title = "Signed by another node"


class NoReadingStands(Refusal):
    """Every reading of the batch is bad; `rejected` maps a code to their indexes."""

    slug = "no-reading-stands"
    title = "No reading of the batch stands"


class NotNodeOwner(Refusal):
    """Only a node's owner announces its maintenance."""

    slug = "not-node-owner"
    title = "Not the node's owner"


class HeartbeatOutOfTime(Refusal):
    """A heartbeat comes within two minutes of its minute's begin; `now_minute` is the instance's minute."""

    slug = "heartbeat-out-of-time"
    title = "Heartbeat out of time"


class HeartbeatHourOutOfTime(Refusal):
    """An hour's heartbeats are recorded within one hour of its end."""

    slug = "heartbeat-hour-out-of-time"
    title = "Heartbeat hour out of time"


class HeartbeatHourKnown(Refusal):
    """The node's hour is recorded with other content."""

    slug = "heartbeat-hour-known"
    title = "Heartbeat hour already recorded"


class MaintenanceTooLate(Refusal):
    """Maintenance is announced at least an hour before it begins."""

    slug = "maintenance-too-late"
    title = "Maintenance announced too late"


class MaintenanceCapReached(Refusal):
    """More hours in 30 days than the rules allow; `limit` is that many."""

    slug = "maintenance-cap-reached"
    title = "Too many hours of maintenance"


class SpoolPartUnproved(Refusal):
    """A late batch needs its hour's hash recorded in time; `expected` is what was recorded, if anything."""

    slug = "spool-part-unproved"
    title = "Spool hash not recorded in time"


class TooManyOpenSpools(Refusal):
    """Too many hours of the node wait for parts of their spools; bring one to its end first."""

    slug = "too-many-open-spools"
    title = "Too many spools half delivered"


class BackfillNotOpen(Refusal):
    """The backfill is not open."""

    slug = "backfill-not-open"
    title = "Backfill not open"


class BackfillAlreadyOpen(Refusal):
    """The backfill's nodes are named already."""

    slug = "backfill-already-open"
    title = "Backfill already open"


class BackfillNodesMismatch(Refusal):
    """The named nodes are not those that were allowed; begin again with page 0."""

    slug = "backfill-nodes-mismatch"
    title = "Backfill nodes do not match"


class PageOutOfOrder(Refusal):
    """Pages come in order, their ids sorted; `expected` is the next page."""

    slug = "page-out-of-order"
    title = "Page out of order"


class SpansOverlap(Refusal):
    """Two backfills would share an epoch, which only one fund can pay."""

    slug = "backfill-spans-overlap"
    title = "Backfill spans overlap"


class ResultOutOfRange(Refusal):
    """A challenge result is dated outside what may be recorded now."""

    slug = "challenge-result-out-of-range"
    title = "Challenge result out of range"


class ResultKnown(Refusal):
    """The device already has results of this challenge: all its runs come in one bulk, each benchmark once."""

    slug = "challenge-result-known"
    title = "Challenge result already recorded"


class UnknownBenchmark(Refusal):
    """The table in force for the class does not name the benchmark, so nothing could be compared with it."""

    slug = "unknown-benchmark"
    title = "Benchmark not in the table in force"


class WrongModel(Refusal):
    """The result names another model than the registry."""

    slug = "wrong-model"
    title = "Device model differs from the registry's"


class OwnNodeChallenged(Refusal):
    """Nobody challenges a node of their own: both signatures would be the payee's."""

    slug = "own-node-challenged"
    title = "Challenger owns the node"


class LeaseKeepsNothing(Refusal):
    """The lease names no content, so there is nothing to prove."""

    slug = "lease-keeps-nothing"
    title = "Lease keeps no content"


class EpochNotOver(Refusal):
    """The epoch cannot close yet."""

    slug = "epoch-not-over"
    title = "Epoch not over"


class EpochOutOfOrder(Refusal):
    """Epochs close in order, each once; `expected` is the next."""

    slug = "epoch-out-of-order"
    title = "Epoch out of order"
