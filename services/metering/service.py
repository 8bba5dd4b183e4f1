"""The manifest of metering."""

from __future__ import annotations

from typing import Final

from services.kernel.decider import Service
from services.metering.commands import (
    AdoptGenesis,
    AdoptNode,
    AdoptTable,
    AnnounceMaintenance,
    CancelLease,
    CloseBackfill,
    CloseEpoch,
    DisputeUsage,
    EndDispute,
    ForfeitHoldback,
    NameBackfillNodes,
    OpenLeases,
    RecordChallengeResults,
    RecordConsumerReadings,
    RecordHeartbeatHour,
    RecordReadings,
    RecordStorageChallenge,
    ReleaseHoldback,
)
from services.metering.deadlines import due
from services.metering.decide.backfills import close_backfill, name_backfill_nodes
from services.metering.decide.challenges import record_challenge_results
from services.metering.decide.consumer import record_consumer_readings
from services.metering.decide.disputes import dispute_usage, end_dispute
from services.metering.decide.epochs import close_epoch
from services.metering.decide.genesis import adopt_genesis, adopt_table
from services.metering.decide.heartbeats import adopt_node, announce_maintenance, record_heartbeat_hour
from services.metering.decide.holdback import forfeit_holdback, release_holdback
from services.metering.decide.leases import cancel_lease, open_leases
from services.metering.decide.readings import record_readings
from services.metering.decide.storage import record_storage_challenge
from services.metering.evolve import evolve
from services.metering.policies import policies
from services.metering.state import Metering

SNAPSHOT_VERSION: Final = 4
"""The layout of the state; raised with every change of it."""


def service() -> Service[Metering]:
    """Return metering's rules as one value."""
    return Service(
        "metering",
        Metering,
        evolve,
        {
            AdoptGenesis: adopt_genesis,
            AdoptTable: adopt_table,
            AdoptNode: adopt_node,
            AnnounceMaintenance: announce_maintenance,
            RecordHeartbeatHour: record_heartbeat_hour,
            NameBackfillNodes: name_backfill_nodes,
            CloseBackfill: close_backfill,
            OpenLeases: open_leases,
            CancelLease: cancel_lease,
            RecordReadings: record_readings,
            RecordConsumerReadings: record_consumer_readings,
            RecordChallengeResults: record_challenge_results,
            RecordStorageChallenge: record_storage_challenge,
            CloseEpoch: close_epoch,
            ReleaseHoldback: release_holdback,
            ForfeitHoldback: forfeit_holdback,
            DisputeUsage: dispute_usage,
            EndDispute: end_dispute,
        },
        policies(),
        due,
        SNAPSHOT_VERSION,
    )
