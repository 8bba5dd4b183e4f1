"""The manifest of metering."""

from __future__ import annotations

from services.kernel.decider import Service
from services.metering.commands import (
    AdoptGenesis,
    AdoptTable,
    CancelLease,
    CloseBackfill,
    CloseEpoch,
    NameBackfillNodes,
    OpenLeases,
    RecordChallengeResults,
    RecordReadings,
)
from services.metering.deadlines import due
from services.metering.decide.backfills import close_backfill, name_backfill_nodes
from services.metering.decide.challenges import record_challenge_results
from services.metering.decide.epochs import close_epoch
from services.metering.decide.genesis import adopt_genesis, adopt_table
from services.metering.decide.leases import cancel_lease, open_leases
from services.metering.decide.readings import record_readings
from services.metering.evolve import evolve
from services.metering.policies import policies
from services.metering.state import Metering


def service() -> Service[Metering]:
    """Return metering's rules as one value."""
    return Service(
        "metering",
        Metering,
        evolve,
        {
            AdoptGenesis: adopt_genesis,
            AdoptTable: adopt_table,
            NameBackfillNodes: name_backfill_nodes,
            CloseBackfill: close_backfill,
            OpenLeases: open_leases,
            CancelLease: cancel_lease,
            RecordReadings: record_readings,
            RecordChallengeResults: record_challenge_results,
            CloseEpoch: close_epoch,
        },
        policies(),
        due,
        snapshot_version=2,
    )
