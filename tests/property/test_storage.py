"""What challenges prove, against a naive model: no order, delay or loss of evidence makes it more."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from events.metering import Lease, LeasedDevice, StorageChallenged
from services.metering.grid import Grid
from services.metering.state import LeaseState, Metering
from services.metering.storage import fold_challenge, proved

HOUR = 3_600_000
START, END = 10 * HOUR, 70 * HOUR
LEASE = LeaseState(
    Lease("l", "storage", "n", "o", (LeasedDevice("d", "disk"),), 1, START, END, "storage", "0"), "p", END
)

Event = tuple[int, bool, int]
"""End in hours, whether it passed, and the first epoch (a day each) that is open when it is recorded."""

events = st.lists(
    st.tuples(st.integers(11, 71), st.booleans(), st.integers(0, 3)), max_size=8, unique_by=lambda event: event[0]
)


def recorded(all_of_them: Sequence[Event]) -> Metering:
    state = Metering(grid=Grid(0, 24 * HOUR))
    for end, passed, epoch in all_of_them:
        state = replace(state, next_live=epoch)
        at = end * HOUR
        fact = StorageChallenged("n", "o", "d", "l", f"{end}", "c", passed, at - 1_000, at, "jws", None)
        state = fold_challenge(state, fact)
    return state


def hours(all_of_them: Sequence[Event]) -> set[int]:
    """The hours that are proved."""
    spans = proved(recorded(all_of_them), LEASE)
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(spans))
    return {hour for start, end, _ in spans for hour in range(start // HOUR, end // HOUR)}


def naive(all_of_them: Sequence[Event]) -> set[int]:
    """An hour is proved by one that passed within a day, before any failed, while the hour's epoch was open."""
    found = set()
    for hour in range(START // HOUR, END // HOUR):
        for end, passed, epoch in sorted(event for event in all_of_them if event[0] > hour):
            if not passed:
                break
            if hour >= min(end, END // HOUR) - 24 and hour >= epoch * 24:
                found.add(hour)
    return found


@given(events, st.randoms(use_true_random=False))
def test_proved_time_is_the_naive_model_s_whatever_the_order(given_events: list[Event], chance: object) -> None:
    assert hours(given_events) == naive(given_events)
    shuffled = list(given_events)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]
    assert hours(shuffled) == naive(given_events)


@given(events, st.data())
def test_losing_or_delaying_a_challenge_that_was_passed_proves_no_more(
    given_events: list[Event], data: st.DataObject
) -> None:
    won = [event for event in given_events if event[1]]
    if won:
        chosen = data.draw(st.sampled_from(won))
        rest = [event for event in given_events if event != chosen]
        later = data.draw(st.integers(chosen[2], 4))
        assert hours(rest) <= hours(given_events)
        assert hours([*rest, (chosen[0], True, later)]) <= hours(given_events)


@given(events, st.integers(11, 71))
def test_one_more_failure_proves_no_more(given_events: list[Event], end: int) -> None:
    others = [event for event in given_events if event[0] != end]
    assert hours([*others, (end, False, 0)]) <= hours(others)
