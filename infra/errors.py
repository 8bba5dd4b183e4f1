"""Which errors are the caller's to mend: one sentence for people, no trace."""

from __future__ import annotations

import msgspec

from events.catalog import UpgradeNeeded
from events.genesis import GenesisRefused
from events.store import StoreError
from infra.api import ApiRefused
from infra.http.server import AddressRefused, PortTaken
from infra.keys import KeyFileRefused
from infra.local import NotReady
from infra.openb.run import ImportRefused
from infra.openb.trace import TraceRefused
from infra.postgres.embedded_errors import EmbeddedPostgresError
from infra.settings import SettingRefused
from infra.supervise import ChildGaveUp
from projections.store import RebuildRunning
from services.kernel.errors import CommonsError

EXPLAINED = (
    AddressRefused,
    ApiRefused,
    ChildGaveUp,
    CommonsError,
    EmbeddedPostgresError,
    GenesisRefused,
    ImportRefused,
    KeyFileRefused,
    NotReady,
    PortTaken,
    RebuildRunning,
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
