"""Load that does not wait for answers: when commands are due, and how long each took from then on."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from infra.bench.open_loop import arrivals, delays, offered, percentile


def test_arrivals_come_at_the_rate_in_rising_order_and_the_same_for_a_seed() -> None:
    due = arrivals(1_000, 10, seed=3)
    assert due == arrivals(1_000, 10, seed=3) != arrivals(1_000, 10, seed=4)
    assert 9_500 < len(due) < 10_500
    assert all(0 < one < other < 10 for one, other in pairwise(due))


async def test_a_command_is_submitted_when_it_is_due_though_none_before_it_was_answered() -> None:
    submitted, answer = [0], asyncio.Event()

    async def submit() -> int:
        submitted[0] += 1
        position = submitted[0]
        if position == 50:
            answer.set()  # would never be reached by a caller who waits
        await answer.wait()
        return position

    async with asyncio.timeout(20):
        sent = await offered([0.0001 * number for number in range(50)], submit)
    assert [position for _, position in sent] == list(range(1, 51))
    assert [at - sent[0][0] for at, _ in sent] == pytest.approx([0.0001 * number for number in range(50)])


def test_a_delay_ends_with_the_first_sample_that_has_come_so_far() -> None:
    seen = [(10.0, 0), (11.0, 3), (12.0, 3), (15.0, 7)]
    assert delays([(9.0, 3), (9.5, 1), (14.0, 4), (8.0, 7)], seen) == [1.0, 1.5, 2.0, 7.0]


@pytest.mark.parametrize(("percent", "value"), [(1, 10.0), (50, 20.0), (75, 30.0), (76, 40.0), (99, 40.0), (100, 40.0)])
def test_a_percentile_is_the_nearest_rank(percent: int, value: float) -> None:
    assert percentile([10.0, 20.0, 30.0, 40.0], percent) == value
