"""Performance tables: versioned governance documents, never code."""

from __future__ import annotations

from events.registry import PerformanceTableAdopted
from services.kernel.decider import Context, Decision, Emit
from services.kernel.errors import InvalidField
from services.registry.commands import AdoptPerformanceTable
from services.registry.decide.guards import founded, permitted
from services.registry.errors import EffectiveTooEarly, VersionNotNext
from services.registry.genesis import table_problems, table_sha256
from services.registry.state import Directory


def adopt_performance_table(command: AdoptPerformanceTable, state: Directory, context: Context) -> Decision:
    """Put the next version in force. Raises InvalidField, VersionNotNext, EffectiveTooEarly, PermissionDenied."""
    founded(state)
    permitted(state, context, "tables.adopt")
    table = command.table
    problems = table_problems(table, "table")
    if problems:
        raise InvalidField("; ".join(problems), field="table", problems=problems)
    versions = state.tables.get(table.work_class, ())
    expected = versions[-1].version + 1 if versions else 1
    if table.version != expected:
        raise VersionNotNext(f"the next {table.work_class} table is version {expected}", expected=expected)
    # A version never comes into force before the one it replaces, or an epoch's table would be ambiguous.
    earliest = max(context.time_ms, state.tables_effective_ms.get(table.work_class, 0))
    effective_ms = earliest if command.effective_ms is None else command.effective_ms
    if effective_ms < earliest:
        raise EffectiveTooEarly(
            "a table comes into force neither in the past nor before its predecessor", earliest_ms=earliest
        )
    digest = table_sha256(table)
    fact = PerformanceTableAdopted(table, digest, effective_ms, command.authorization)
    return Decision(
        (Emit(f"table/{table.work_class}", fact),),
        {"version": table.version, "sha256": digest, "effective_ms": effective_ms},
    )
