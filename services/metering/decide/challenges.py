"""Recording challenge results: the steward's command until challenges are drawn by lot (METERING "Challenges")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from events.genesis import PerformanceTable
from events.metering import ChallengeResult, ChallengeResultsRecorded
from events.registry_terms import KINDS
from events.values import DAY_MS, HOUR_MS, PF_UNIT
from services.kernel.decider import Context, Decision, Emit
from services.kernel.directory import Node
from services.kernel.errors import InvalidField
from services.metering.commands import RecordChallengeResults
from services.metering.errors import (
    NotAdopted,
    OwnNodeChallenged,
    ResultKnown,
    ResultOutOfRange,
    UnknownBenchmark,
    UnknownDevice,
    UnknownNode,
    WrongModel,
)
from services.metering.performance import RESULTS_NEEDED, RESULTS_USED, median, micro, of_class, table_entry
from services.metering.state import Backfill, Metering, Result

MAX_RESULTS: Final = 50
MAX_AGE_MS: Final = HOUR_MS
MAX_AHEAD_MS: Final = 300_000
BEFORE_BACKFILL_MS: Final = 35 * DAY_MS
"""How long before a backfill's span its nodes' results may lie, so that its first epoch has factors."""

MEDIAN_PERCENT: Final = 90
TABLE_PERCENT: Final = 75


def record_challenge_results(command: RecordChallengeResults, state: Metering, context: Context) -> Decision:
    """Record 1..50 results of one node's devices, each with whether it passed."""
    if state.rules is None:
        raise NotAdopted("genesis comes first")
    if not 1 <= len(command.results) <= MAX_RESULTS:
        raise InvalidField(f"a bulk has 1 to {MAX_RESULTS} results", field="results", count=len(command.results))
    node = context.directory.nodes.get(command.node)
    if node is None or node.status == "retired":
        raise UnknownNode("the registry knows no such node", node=command.node)
    if context.actor == node.owner:
        raise OwnNodeChallenged("the owner of a node does not challenge it", node=command.node)
    if command.node_jws is None and any(result.throughput is not None for result in command.results):
        raise InvalidField("an answer carries the node's signature", field="node_jws")
    fresh: dict[str, list[Result]] = {}
    passed: list[bool] = []
    backfill: str | None = None
    for result in command.results:
        _check(result, node)
        backfill = _check_date(result, command.node, state, context.time_ms) or backfill
        earlier, in_bulk = state.results.get(result.device, ()), fresh.get(result.device, ())
        _check_fresh(result, earlier, in_bulk)
        known = [*earlier, *in_bulk]
        table = of_class(state.tables.get(result.work_class, ()), result.end_ms)
        _check_benchmark(result, table)
        throughput = None if result.throughput is None else micro(result.throughput)
        good = _passed(result, throughput, known, table)
        passed.append(good)
        kept = Result(result.end_ms, result.challenge, result.benchmark, result.work_class, throughput, good)
        fresh.setdefault(result.device, []).append(kept)
    fact = ChallengeResultsRecorded(
        command.node,
        node.owner,
        context.actor,
        command.results,
        tuple(passed),
        command.challenger_jws,
        command.node_jws,
        backfill,
    )
    return Decision([Emit(command.node, fact)], {"node": command.node, "passed": passed})


def _check(result: ChallengeResult, node: Node) -> None:
    device = next((one for one in node.fact.devices if one.device == result.device), None)
    if device is None:
        raise UnknownDevice("the node has no such device", device=result.device)
    if device.model != result.model:
        raise WrongModel("the registry knows the device as another model", device=result.device, model=device.model)
    if device.kind != result.work_class and (device.kind != "gpu" or result.work_class in KINDS):
        raise InvalidField("a device is tried for a class of its kind", field="work_class", challenge=result.challenge)
    if not 0 <= result.start_ms < result.end_ms:
        raise InvalidField("a run ends after it starts", field="end_ms", challenge=result.challenge)
    if result.throughput is not None:
        try:
            micro(result.throughput)
        except ValueError as error:
            raise InvalidField(f"throughput: {error}", field="throughput", challenge=result.challenge) from error


def _check_fresh(result: ChallengeResult, earlier: Sequence[Result], in_bulk: Sequence[Result]) -> None:
    """Raise ResultKnown: a device's runs of a challenge are one trial; they come in one bulk, each benchmark once."""
    twice = any((one.challenge, one.benchmark) == (result.challenge, result.benchmark) for one in in_bulk)
    if twice or any(one.challenge == result.challenge for one in earlier):
        raise ResultKnown("the device has a result of this challenge", challenge=result.challenge)


def _check_benchmark(result: ChallengeResult, table: PerformanceTable | None) -> None:
    if table is not None and all(one.name != result.benchmark for one in table.reference):
        raise UnknownBenchmark(
            "the table in force does not name this benchmark for the class",
            challenge=result.challenge,
            benchmark=result.benchmark,
            work_class=result.work_class,
        )


def _check_date(result: ChallengeResult, node: str, state: Metering, now_ms: int) -> str | None:
    """Return the open backfill whose history the result is, None for a live one; raises ResultOutOfRange."""
    if now_ms - MAX_AGE_MS <= result.end_ms <= now_ms + MAX_AHEAD_MS:
        return None
    for known in state.backfills.values():
        if known.is_open and node in known.members and _in_span(result, known):
            return known.backfill
    raise ResultOutOfRange(
        "a result is at most an hour old, or dated in an open backfill of its node",
        challenge=result.challenge,
        end_ms=result.end_ms,
    )


def _in_span(result: ChallengeResult, known: Backfill) -> bool:
    return known.start_ms - BEFORE_BACKFILL_MS <= result.end_ms < known.end_ms


def _passed(
    result: ChallengeResult, throughput: int | None, known: Sequence[Result], table: PerformanceTable | None
) -> bool:
    """Apply the rule: no answer fails, one under 0.75 x its table entry, and two in a row under 0.90 x the median."""
    if throughput is None:
        return False
    if table is not None and _under_table(result, throughput, table):
        return False
    earlier = sorted(
        (
            one
            for one in known
            if (one.work_class, one.benchmark) == (result.work_class, result.benchmark) and one.end_ms <= result.end_ms
        ),
        key=lambda one: (one.end_ms, one.challenge),
    )
    if not earlier or not _under_median(throughput, earlier):
        return True
    last = earlier[-1].throughput_micro
    return last is not None and not _under_median(last, earlier[:-1])


def _under_table(result: ChallengeResult, throughput: int, table: PerformanceTable) -> bool:
    entry = table_entry(table, result.model)
    reference = next((micro(one.throughput) for one in table.reference if one.name == result.benchmark), None)
    if entry is None or reference is None:
        return False
    return throughput * 100 * PF_UNIT < TABLE_PERCENT * entry * reference


def _under_median(throughput: int, earlier: Sequence[Result]) -> bool:
    """Tell whether a run is under 0.90 x the device's own median: of its last 5 answers, once there are 3."""
    answers = [one.throughput_micro for one in earlier if one.throughput_micro is not None][-RESULTS_USED:]
    return len(answers) >= RESULTS_NEEDED and throughput * 100 < MEDIAN_PERCENT * median(answers)
