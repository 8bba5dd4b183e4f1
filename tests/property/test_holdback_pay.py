"""No part of the usage that is left out, delayed or shrunk raises pay, and challenges move it the way they should."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, product

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.holdback_history import CORES, NAMES, History, parts
from tests.metering_world import node

AMPLE = 10**9
"""Base units per epoch: every score earns the whole rate cap, and the late reserve pays all that is late."""

EPOCHS = 2
Part = tuple[str, int, int]
"""(node, number of its device, epoch)."""


@dataclass(frozen=True)
class Told:
    """How much of a part of the usage is told in time, how much late, and after how many later closes."""

    in_time: int
    late: int = 0
    after: int = 1


@dataclass(frozen=True)
class Trial:
    """A challenge of a node's device that ended in an epoch and is recorded before a close."""

    name: str
    number: int
    ended: int
    recorded: int
    passed: bool


names = st.sampled_from(["one", "one", "three"])
places = st.tuples(names, st.integers(0, CORES), st.integers(0, EPOCHS - 1))
usage = st.dictionaries(places, st.sampled_from([1, 40, 3_000]), min_size=4, max_size=10)
slices = st.one_of(
    st.sampled_from([(4, 0, 1), (4, 0, 1), (0, 0, 1)]),
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(1, 10)),
)
"""Quarters of a part told in time, quarters of the rest told late, and how late: kept or left out above all."""
cuts = st.lists(slices, min_size=5, max_size=10)

one_trial = st.builds(
    Trial,
    names,
    st.integers(0, CORES),
    st.integers(0, EPOCHS),
    st.sampled_from([0, 1, 2, 8]),
    st.sampled_from([True, True, False]),
).map(lambda one: one if one.recorded >= one.ended else Trial(one.name, one.number, one.ended, one.ended, one.passed))
trials = st.lists(one_trial, max_size=6)
disputed = st.dictionaries(st.tuples(names, st.integers(0, EPOCHS - 1)), st.booleans(), max_size=2)
Disputed = Mapping[tuple[str, int], bool]


def rows(parts_told: Mapping[Part, int]) -> list[tuple[str, str, set[int], int]]:
    """A row for each node and kind that these parts say something of."""
    found = {}
    for name in NAMES:
        for kind, numbers in (("gpu", range(CORES)), ("cpu", (CORES,))):
            micro = {one[1]: amount for one, amount in parts_told.items() if one[0] == name and one[1] in numbers}
            found[name, kind] = name, kind, {number for number in micro if micro[number]}, sum(micro.values())
    return [row for row in found.values() if row[3]]


def played(usage: Mapping[Part, Told], trials: Sequence[Trial], disputed: Disputed, *, served: bool) -> History:
    """Play it to the end; `served`: at last every device passes a challenge of each epoch."""
    history = History(AMPLE)
    for step in range(EPOCHS + 9):
        for name, epoch in disputed:
            if epoch == step:
                history.dispute(name, 0)
        for one in trials:
            if one.recorded == step:
                history.challenge_in(one.ended, one.name, one.number, passed=one.passed)
        history.close(rows({part: one.in_time for part, one in usage.items() if part[2] == step}))
        for epoch in range(EPOCHS):
            late = {part: one.late for part, one in usage.items() if part[2] == epoch and epoch + one.after == step}
            history.late(rows(late), step - epoch)
        history.end()
    for upheld in (disputed[key] for key in sorted(disputed, key=lambda key: key[1])):
        history.rule("upheld" if upheld else "dismissed")
    for name, number, epoch in product(NAMES, range(CORES + 1), range(EPOCHS)):
        if served:
            history.challenge_in(epoch, name, number)
    history.end()
    return history


def amounts(history: History, what: str) -> Counter[str]:
    """What was paid to each node, or is held of it."""
    found: Counter[str] = Counter({node(name): 0 for name in NAMES})
    for fact in history.facts:
        for how, name, amount in parts(fact):
            found[name] += amount if how == what else 0
    return found


def in_time(usage: Mapping[Part, int]) -> dict[Part, Told]:
    return {part: Told(amount) for part, amount in usage.items()}


def sliced(usage: Mapping[Part, int], cuts: Sequence[tuple[int, int, int]]) -> dict[Part, Told]:
    """Tell some quarters of every part in time, some of the rest late, and leave out what is left."""
    found = {}
    for (part, amount), (soon, late, after) in zip(sorted(usage.items()), cycle(cuts), strict=False):
        kept = amount * soon // 4
        found[part] = Told(kept, (amount - kept) * late // 4, after)
    return found


@given(usage, cuts, trials, disputed)
@settings(max_examples=60, deadline=None)
def test_leaving_out_delaying_or_shrinking_usage_never_raises_what_it_pays_in_the_end(
    usage: dict[Part, int], cuts: list[tuple[int, int, int]], trials: list[Trial], disputed: Disputed
) -> None:
    whole = amounts(played(in_time(usage), trials, disputed, served=True), "paid")
    less = amounts(played(sliced(usage, cuts), trials, disputed, served=True), "paid")
    assert all(less[name] <= whole[name] for name in whole)


@given(usage, cuts, trials, disputed)
@settings(max_examples=60, deadline=None)
def test_less_usage_never_pays_more_than_what_the_whole_was_paid_and_waits_for(
    usage: dict[Part, int], cuts: list[tuple[int, int, int]], trials: list[Trial], disputed: Disputed
) -> None:
    whole = played(in_time(usage), trials, disputed, served=False)
    paid, waits = amounts(whole, "paid"), amounts(whole, "held")
    less = amounts(played(sliced(usage, cuts), trials, disputed, served=False), "paid")
    assert all(less[name] <= paid[name] + waits[name] for name in paid)


@given(usage, cuts, trials, disputed, one_trial, st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_failed_challenge_more_never_raises_pay_and_a_passed_one_never_lowers_it(
    usage: dict[Part, int],
    cuts: list[tuple[int, int, int]],
    trials: list[Trial],
    disputed: Disputed,
    more: Trial,
    served: bool,  # noqa: FBT001
) -> None:
    history = sliced(usage, cuts)
    before = amounts(played(history, trials, disputed, served=served), "paid")
    after = amounts(played(history, [*trials, more], disputed, served=served), "paid")
    for name in before:
        assert after[name] >= before[name] if more.passed else after[name] <= before[name]
