"""Challenge results and the performance factor they make."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from events.genesis import Benchmark, PerformanceTable, TableEntry
from events.metering import ChallengeResult, ChallengeResultsRecorded
from services.kernel.errors import InvalidField
from services.metering.commands import RecordChallengeResults
from services.metering.errors import (
    ResultKnown,
    ResultOutOfRange,
    UnknownBenchmark,
    UnknownDevice,
    UnknownNode,
    WrongModel,
)
from services.metering.performance import integer_root, micro, performance_factor, table_entry
from services.metering.state import Result
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, TABLE, ZERO_MS, World, device, member, node

REFERENCE = 5_600_000_000
"""The reference throughput of the table, in millionths."""


def result(number: int, factor: int | None, at_ms: int | None = None, **changes: Any) -> Result:
    """Return a run that measured `factor` (x 10,000) of the reference."""
    throughput = None if factor is None else REFERENCE * factor // 10_000
    made = Result(
        number if at_ms is None else at_ms, f"c{number}", "resnet50-offline", "infer", throughput, passed=True
    )
    return replace(made, **changes)


def factor(
    results: list[Result], model: str = "A10", table: PerformanceTable | None = TABLE, at_ms: int = 1_000
) -> int:
    return performance_factor(results, table, model, at_ms)


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("model", ["A10", "unheard-of"])
def test_with_fewer_than_three_results_the_factor_is_the_floor(count: int, model: str) -> None:
    assert factor([result(number, 20_000) for number in range(count)], model) == 500


def test_the_median_of_the_last_five_results_counts() -> None:
    results = [result(number, value) for number, value in enumerate((1, 1, 20_000, 20_100, 20_200, 20_300, 20_400))]
    assert factor(results) == 20_200
    assert factor(results[:6]) == 20_100
    # Four results: the mean of the two in the middle, floored.
    assert factor([result(number, value) for number, value in enumerate((9_000, 10_000, 10_001, 11_000))]) == 10_000


def test_results_after_the_instant_do_not_count() -> None:
    results = [result(number, 20_000) for number in range(3)]
    assert factor(results, at_ms=1) == 500
    assert factor(results, at_ms=2) == 20_000


def test_a_known_model_is_capped_at_a_quarter_above_its_entry() -> None:
    results = [result(number, 99_999) for number in range(3)]
    assert factor(results, "T4") == 12_500
    assert factor(results, "A10") == 29_337


def test_an_unknown_model_is_capped_at_a_quarter_above_the_highest_entry() -> None:
    assert factor([result(number, 999_999) for number in range(3)], "B300") == 66_620 * 5 // 4


def test_a_median_under_the_floor_pays_nothing() -> None:
    assert factor([result(number, 499) for number in range(3)]) == 0
    assert factor([result(number, 500) for number in range(3)]) == 500


def test_no_answer_counts_as_no_throughput() -> None:
    assert factor([result(0, 20_000), result(1, None), result(2, None)]) == 0


def test_a_class_without_a_table_is_not_payable() -> None:
    assert factor([result(number, 20_000) for number in range(3)], table=None) == 0


def test_results_of_another_class_or_benchmark_do_not_count() -> None:
    results = [result(number, 20_000) for number in range(3)]
    assert factor([replace(one, work_class="train") for one in results]) == 500
    assert factor([replace(one, benchmark="bert") for one in results]) == 500


def test_a_result_is_the_geometric_mean_over_the_class_s_benchmarks() -> None:
    table = msgspec.structs.replace(TABLE, reference=(*TABLE.reference, Benchmark(name="bert", throughput="100")))
    one = [result(number, 10_000) for number in range(3)]
    two = [replace(run, benchmark="bert", throughput_micro=400_000_000) for run in one]
    assert factor([*one, *two], table=table) == 20_000
    # A challenge that ran only a part of the set is no result.
    assert factor([*one, *two[:2]], table=table) == 500


@pytest.mark.parametrize("degree", [1, 2, 3, 5])
def test_a_root_is_the_largest_integer_whose_power_fits(degree: int) -> None:
    for value in (0, 1, 2, 7, 8, 9, 26, 27, 28, 10**30 - 1, 10**30, 10**30 + 1):
        root = integer_root(value, degree)
        assert root**degree <= value < (root + 1) ** degree


@pytest.mark.parametrize("text", ["1.", ".5", "01", "-1", "1e3", "1.0000001", "", " 1", "1234567890123"])
def test_a_throughput_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="decimal"):
        micro(text)


def test_a_decimal_is_read_in_millionths() -> None:
    assert (micro("0"), micro("13478.3"), micro("0.000001")) == (0, 13_478_300_000, 1)
    assert table_entry(TABLE, "A10") == 23_470
    entries = (TableEntry(model="X", performance_factor="0.5"),)
    assert table_entry(msgspec.structs.replace(TABLE, entries=entries), "X") == 5_000


@pytest.fixture
def world() -> World:
    return World().with_node("one")


def test_an_answer_at_the_table_s_throughput_passes(world: World) -> None:
    fact = world.results("one", 0, "T4", ["5600", "5600"], NOW_MS)
    assert (fact.passed, fact.owner, fact.challenger) == ((True, True), member("provider"), member("operator"))


def test_one_result_under_three_quarters_of_the_table_fails(world: World) -> None:
    assert world.results("one", 0, "T4", ["4200", "4199.999999"], NOW_MS).passed == (True, False)


@pytest.mark.parametrize(
    ("last", "passed"),
    [
        (("5399", "5400"), (True, True)),
        (("5399", "5399"), (True, False)),
        (("5399", "6000"), (True, True)),
        ((None, "5399"), (False, False)),
    ],
)
def test_two_in_a_row_under_nine_tenths_of_the_own_median_fail(
    world: World, last: tuple[str | None, str], passed: tuple[bool, bool]
) -> None:
    assert world.results("one", 0, "T4", ["6000"] * 3, NOW_MS - 20 * MINUTE).passed == (True,) * 3
    assert world.results("one", 0, "T4", last, NOW_MS).passed == passed


def test_no_answer_is_a_failure(world: World) -> None:
    assert world.results("one", 0, "T4", [None], NOW_MS).passed == (False,)


def one_result(**changes: Any) -> ChallengeResult:
    fields = {
        "challenge": "c",
        "device": device("one"),
        "model": "T4",
        "work_class": "infer",
        "benchmark": "resnet50-offline",
        "seed": "00",
        "digest": "11",
        "start_ms": NOW_MS - MINUTE,
        "end_ms": NOW_MS,
        "throughput": "5600",
    }
    return ChallengeResult(**{**fields, **changes})


def record(world: World, *results: ChallengeResult, node_jws: str | None = "jws") -> ChallengeResultsRecorded:
    command = RecordChallengeResults(node("one"), results, "jws", node_jws)
    return world.spec.when(command, member("operator"))[0]


@pytest.mark.parametrize(
    ("changes", "refusal"),
    [
        ({"device": device("two")}, UnknownDevice),
        ({"model": "A100-SXM-80"}, WrongModel),
        ({"throughput": "5600.0000001"}, InvalidField),
        ({"throughput": "-1"}, InvalidField),
        ({"start_ms": NOW_MS}, InvalidField),
        ({"start_ms": NOW_MS - 3 * HOUR, "end_ms": NOW_MS - HOUR - 1}, ResultOutOfRange),
        ({"end_ms": NOW_MS + 5 * MINUTE + 1}, ResultOutOfRange),
    ],
)
def test_a_result_that_does_not_fit_is_refused(world: World, changes: dict, refusal: type[Exception]) -> None:
    with pytest.raises(refusal):
        record(world, one_result(**changes))


def test_a_result_is_recorded_once(world: World) -> None:
    record(world, one_result())
    with pytest.raises(ResultKnown):
        record(world, one_result())
    with pytest.raises(ResultKnown):
        record(world, one_result(challenge="d"), one_result(challenge="d"))


def test_the_runs_of_one_challenge_are_one_trial_which_fails_when_one_of_them_does() -> None:
    table = msgspec.structs.replace(TABLE, reference=(*TABLE.reference, Benchmark(name="bert", throughput="100")))
    world = World(tables=(table,)).with_node("one")
    runs = [
        one_result(challenge=challenge, benchmark=name, throughput=throughput, end_ms=NOW_MS + late)
        for challenge, name, throughput, late in (
            ("a", "resnet50-offline", "5600", 0),
            ("b", "resnet50-offline", "4000", 0),
            ("c", "resnet50-offline", "5600", 0),
            ("c", "bert", "100", MINUTE),
            ("a", "bert", "100", 0),
            ("b", "bert", "100", 0),
        )
    ]
    assert record(world, *runs).passed == (True, False, True, True, True, True)
    for subject in (device("one"), member("provider")):
        trials = world.spec.state.records[subject].challenges
        assert [(won, lost, count) for _, won, lost, count in trials] == [(1, 1, 2), (1, 0, 1)]
    assert len(world.spec.state.results[device("one")]) == 6


def test_the_runs_of_a_challenge_come_in_one_bulk() -> None:
    table = msgspec.structs.replace(TABLE, reference=(*TABLE.reference, Benchmark(name="bert", throughput="100")))
    world = World(tables=(table,)).with_node("one")
    record(world, one_result())
    with pytest.raises(ResultKnown):
        record(world, one_result(benchmark="bert", throughput="100"))


def test_a_benchmark_outside_the_table_in_force_is_refused(world: World) -> None:
    with pytest.raises(UnknownBenchmark):
        record(world, one_result(benchmark="bert"))
    with pytest.raises(UnknownBenchmark):
        record(world, one_result(), one_result(challenge="d", benchmark="bert", throughput=None))
    # A class without a table has nothing to compare with.
    assert record(world, one_result(benchmark="bert", work_class="train")).passed == (True,)


def test_results_of_an_unknown_node_and_51_results_are_refused(world: World) -> None:
    with pytest.raises(UnknownNode):
        world.spec.when(RecordChallengeResults(node("none"), (one_result(),), "jws", "jws"), member("operator"))
    with pytest.raises(InvalidField):
        record(world, *(one_result(challenge=f"c{number}") for number in range(51)))
    with pytest.raises(InvalidField):
        record(world)


def test_only_a_missing_answer_goes_without_the_node_s_signature(world: World) -> None:
    with pytest.raises(InvalidField):
        record(world, one_result(), node_jws=None)
    assert record(world, one_result(throughput=None), node_jws=None).passed == (False,)


def test_results_of_an_open_backfill_count_at_their_own_date() -> None:
    world = World(backfill_days=10, backfill_nodes=["one"]).with_node("one").with_node("two").open_backfill()
    assert world.results("one", 0, "T4", ["5600"] * 3, ZERO_MS - HOUR).backfill == "history"
    assert world.results("one", 0, "T4", ["5600"] * 3, ZERO_MS + 5 * DAY).backfill == "history"
    for name, at_ms in (("one", ZERO_MS - 36 * DAY), ("one", ZERO_MS + 10 * DAY), ("two", ZERO_MS + DAY)):
        with pytest.raises(ResultOutOfRange):
            world.results(name, 0, "T4", ["5600"], at_ms)
    # The price of a lease of that time shows that three results had come by then.
    assert world.lease("a", ZERO_MS, ZERO_MS + HOUR, models=("T4",)).charged == "1000000"
