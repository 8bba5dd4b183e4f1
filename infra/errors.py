"""Which errors are the caller's to mend: one sentence for people, no trace."""

from __future__ import annotations

import msgspec

from events.catalog import UpgradeNeeded
from events.genesis import GenesisRefused
from events.store import StoreError
from infra.agent.home import AgentRefused
from infra.api import ApiRefused
from infra.backup.manifest import BackupRefused
from infra.challenges import ChallengeRefused
from infra.home import HomeRefused
from infra.http.server import AddressRefused, PortTaken
from infra.keys import KeyFileRefused
from infra.local import NoRoom, NotReady
from infra.openb.run import ImportRefused
from infra.openb.trace import TraceRefused
from infra.postgres.embedded_errors import EmbeddedPostgresError
from infra.postgres.programs import ProgramFailed
from infra.settings import SettingRefused
from infra.supervise import ChildGaveUp
from projections.repair import RecordGone
from projections.store import RebuildRunning
from services.kernel.errors import CommonsError

EXPLAINED = (
    AddressRefused,
    AgentRefused,
    ApiRefused,
    BackupRefused,
    ChallengeRefused,
    ChildGaveUp,
    CommonsError,
    EmbeddedPostgresError,
    GenesisRefused,
    HomeRefused,
    ImportRefused,
    KeyFileRefused,
    NoRoom,
    NotReady,
    PortTaken,
    ProgramFailed,
    RebuildRunning,
    RecordGone,
    SettingRefused,
    StoreError,
    TraceRefused,
    UpgradeNeeded,
)
"""Errors whose message says what is wrong and what to do."""


def explained(error: BaseException) -> str | None:
    """Return the sentence for an error, of the first one in a group; None for a mistake of ours."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, EXPLAINED):
        return str(error)
    if isinstance(error, msgspec.ValidationError):
        return f"a stored record does not fit its type: {error}"
    return None
