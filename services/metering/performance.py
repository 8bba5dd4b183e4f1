"""Performance factors (METERING "Performance Factor"): integers x 10,000, floored at 4 decimals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from events.genesis import PerformanceTable
from events.metering import TableAdopted
from events.values import PF_UNIT
from services.metering.state import Result

FLOOR: Final = 500
"""0.05: what a device with fewer than three results has, and the least a median must reach."""

RESULTS_NEEDED: Final = 3
RESULTS_USED: Final = 5
CAP_NUMERATOR: Final = 5
CAP_DENOMINATOR: Final = 4
"""A median counts up to 1.25 x its table entry."""

MICRO: Final = 1_000_000
_DECIMAL: Final = re.compile(r"(0|[1-9][0-9]{0,11})(?:\.([0-9]{1,6}))?\Z")


def micro(text: str) -> int:
    """Return a decimal string (12 digits, at most 6 decimals) in millionths; raises ValueError for anything else."""
    match = _DECIMAL.match(text)
    if match is None:
        raise ValueError(f"{text[:40]!r} is not a decimal number with at most 6 decimals")
    return int(match[1]) * MICRO + int((match[2] or "0").ljust(6, "0"))


def table_entry(table: PerformanceTable, model: str) -> int | None:
    """Return a model's entry x 10,000, floored; None when the table does not know the model."""
    for entry in table.entries:
        if entry.model == model:
            return micro(entry.performance_factor) * PF_UNIT // MICRO
    return None


def table_in_force(tables: Sequence[TableAdopted], at_ms: int) -> TableAdopted | None:
    """Return the table for an epoch that starts at `at_ms`: the last that took effect by then."""
    known = [table for table in tables if table.effective_ms <= at_ms]
    return max(known, key=lambda table: (table.effective_ms, table.table.version), default=None)


def performance_factor(results: Sequence[Result], table: PerformanceTable | None, model: str, at_ms: int) -> int:
    """Return the factor x 10,000 of a device from its results dated up to `at_ms`.

    0 without a table of the class or when the median is under 0.05; 0.05 with fewer than 3 results; else the median
    of the last 5, at most 1.25 x the table's entry (its highest entry for an unknown model).
    """
    if table is None:
        return 0
    factors = [factor for _, _, factor in sorted(_sets(results, table, at_ms))[-RESULTS_USED:]]
    if len(factors) < RESULTS_NEEDED:
        return FLOOR
    middle = median(factors)
    if middle < FLOOR:
        return 0
    entry = table_entry(table, model)
    if entry is None:
        entry = max((table_entry(table, known.model) or 0 for known in table.entries), default=0)
    return min(middle, entry * CAP_NUMERATOR // CAP_DENOMINATOR)


def median(values: Iterable[int]) -> int:
    """Return the median, floored where it lies between two integers."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) // 2


def _sets(results: Sequence[Result], table: PerformanceTable, at_ms: int) -> Iterable[tuple[int, str, int]]:
    """Yield (date, challenge, factor) of every challenge that ran the class's whole benchmark set."""
    reference = {benchmark.name: micro(benchmark.throughput) for benchmark in table.reference}
    runs: dict[str, dict[str, Result]] = {}
    for result in results:
        if result.end_ms <= at_ms and result.work_class == table.work_class and result.benchmark in reference:
            runs.setdefault(result.challenge, {})[result.benchmark] = result
    for challenge, run in runs.items():
        if len(run) == len(reference):
            above = below = 1
            for name, result in run.items():
                # No answer counts as no throughput: withheld evidence must not raise a median.
                above *= (result.throughput_micro or 0) * PF_UNIT
                below *= reference[name]
            yield max(result.end_ms for result in run.values()), challenge, integer_root(above // below, len(run))


def integer_root(value: int, degree: int) -> int:
    """Return the floor of the `degree`-th root of a non-negative integer."""
    if degree == 1 or value < 2:  # noqa: PLR2004 - 0 and 1 are their own roots
        return value
    guess = 1 << -(-value.bit_length() // degree)
    while True:
        better = ((degree - 1) * guess + value // guess ** (degree - 1)) // degree
        if better >= guess:
            return guess
        guess = better


def of_class(tables: Sequence[TableAdopted], at_ms: int) -> PerformanceTable | None:
    """Return the performance table in force at `at_ms`, or None."""
    found = table_in_force(tables, at_ms)
    return found.table if found else None
