"""The rules of performance tables, in a genesis document and afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from events.genesis import PerformanceTable
from events.values import PF_UNIT
from services.registry.genesis_values import SAFE_INTEGER, repeated, slug_problems, text_problems

MODEL_CHARACTERS: Final = 80

_FACTOR: Final = re.compile(r"(?:0|[1-9][0-9]{0,5})(?:\.[0-9]{1,4})?\Z")
_THROUGHPUT: Final = re.compile(r"(?:0|[1-9][0-9]{0,11})(?:\.[0-9]{1,6})?\Z")


def tables_problems(tables: Sequence[PerformanceTable]) -> Iterator[str]:
    """Judge performance tables: one version per class of work starts in force."""
    for work_class in repeated(table.work_class for table in tables):
        yield f"performance_tables: the class {work_class} has two tables; genesis adopts one version of each"
    for index, table in enumerate(tables):
        yield from table_problems(table, f"performance_tables[{index}]")


def table_problems(table: PerformanceTable, path: str) -> list[str]:
    """List what is wrong with one table: factors with 4 decimals above 0, references above 0, 1.0000 = reference."""
    problems = []
    if not 1 <= table.version <= SAFE_INTEGER:
        problems.append(f"{path}.version: {table.version} is not a version from 1 on")
    if not table.reference:
        problems.append(f"{path}.reference: no benchmark; a class is measured by at least one")
    problems += slug_problems(f"{path}.reference", "name", [benchmark.name for benchmark in table.reference])
    for index, benchmark in enumerate(table.reference):
        if not _positive(benchmark.throughput, _THROUGHPUT):
            problems.append(f"{path}.reference[{index}].throughput: write a decimal above 0, up to 6 decimals")
    models = [entry.model for entry in table.entries]
    problems += [f"{path}.entries: {model} stands twice" for model in repeated(models)]
    for index, entry in enumerate(table.entries):
        problems += text_problems(f"{path}.entries[{index}].model", entry.model, MODEL_CHARACTERS)
        if not _positive(entry.performance_factor, _FACTOR):
            problems.append(f"{path}.entries[{index}].performance_factor: write a decimal above 0, up to 4 decimals")
    factors = {entry.model: entry.performance_factor for entry in table.entries}
    if _ten_thousandths(factors.get(table.reference_model, "")) != PF_UNIT:
        problems.append(f"{path}.reference_model: {table.reference_model[:80]!r} has no entry of 1.0000")
    return problems


def _positive(text: str, form: re.Pattern[str]) -> bool:
    return bool(form.match(text)) and any(digit not in "0." for digit in text)


def _ten_thousandths(text: str) -> int | None:
    if not _FACTOR.match(text):
        return None
    whole, _, decimals = text.partition(".")
    return int(whole) * PF_UNIT + int(decimals.ljust(4, "0"))
