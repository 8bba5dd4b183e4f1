"""All views there are, and all their queries."""

from __future__ import annotations

from projections import audit_trail, balances, epochs, members, nodes, profiles, scores, usage, usage_queries
from projections.audit_trail import RecordReader
from projections.profiles import Opener
from projections.queries import ViewReader
from projections.routes import QueryRoute
from projections.view import View


def views() -> tuple[View, ...]:
    """Return every view, by name."""
    return (
        audit_trail.VIEW,
        balances.VIEW,
        epochs.VIEW,
        members.VIEW,
        nodes.VIEW,
        profiles.VIEW,
        scores.VIEW,
        usage.VIEW,
    )


def routes(reader: ViewReader, records: RecordReader, opener: Opener) -> tuple[QueryRoute, ...]:
    """Return every view's queries; `records` reads stored bytes for the audit trail, `opener` opens profiles."""
    return (
        *audit_trail.routes(reader, records),
        *balances.routes(reader),
        *epochs.routes(reader),
        *members.routes(reader),
        *nodes.routes(reader),
        *profiles.routes(reader, opener),
        *scores.routes(reader),
        *usage_queries.routes(reader),
    )
