"""What is held back under any history, in metering and in the book together, beside a naive model of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from events.treasury import EpochSettled, RewardsPaid, ScoredNode
from events.values import PPM
from services.kernel.snapshot import freeze, thaw
from services.metering.state import Metering
from services.treasury.state import Book
from tests.holdback_history import EMISSION, KINDS, NAMES, POOLS, TENTH, History, entries, parts
from tests.treasury_given import founded, settle

rows = st.lists(
    st.tuples(
        st.sampled_from(NAMES), st.sampled_from(KINDS), st.sets(st.integers(0, 1), min_size=1), st.integers(0, 3_000)
    ),
    max_size=5,
    unique_by=lambda row: row[:2],
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("close"), rows),
        st.tuples(st.just("close"), rows),
        st.tuples(st.just("late"), rows, st.integers(0, 9)),
        st.tuples(
            st.just("challenge"),
            st.sampled_from(NAMES),
            st.integers(0, 2),
            st.sampled_from([True] * 3 + [False]),
            st.integers(0, 9),
        ),
        st.tuples(st.just("dispute"), st.sampled_from(NAMES), st.integers(0, 8)),
        st.tuples(st.just("rule"), st.sampled_from(["upheld", "dismissed", "dismissed"])),
        st.tuples(st.just("end")),
    ),
    max_size=40,
)


def played(history: Sequence[tuple[Any, ...]], *, stays_open: bool = True) -> History:
    found = History(stays_open=stays_open)
    for name, *arguments in history:
        getattr(found, name)(*arguments)
        assert thaw(freeze(found.epochs.spec.state), Metering) == found.epochs.spec.state
    found.finish()
    return found


@given(steps, st.booleans())
@settings(max_examples=80, deadline=None)
def test_every_holdback_ends_once_and_as_the_model_says(history: list[tuple[Any, ...]], stays_open: bool) -> None:  # noqa: FBT001
    found = played(history, stays_open=stays_open)
    assert not found.held.held
    assert set(found.model.state.values()) <= {"released", "forfeited"}
    balances = found.book.state.balances
    assert all(amount == 0 for name, amount in balances.items() if name.startswith("holdback/"))
    assert thaw(freeze(found.book.state), Book) == found.book.state


@given(steps)
@settings(max_examples=60, deadline=None)
def test_every_unit_is_accounted_for_by_kind_and_by_reward(history: list[tuple[Any, ...]]) -> None:
    found = played(history)
    pools: Counter[int] = Counter()
    rewards: Counter[tuple[str, int, str, str]] = Counter()
    for fact in found.facts:
        if isinstance(fact, EpochSettled):
            assert int(fact.paid) + int(fact.late_reserve) + int(fact.kept) == int(fact.pool)
            pools[fact.epoch] += int(fact.pool)
        for what, name, amount in parts(fact):
            rewards[what, fact.epoch, fact.kind or "gpu", name] += amount  # type: ignore[attr-defined]
    assert set(pools.values()) <= {EMISSION}
    assert not any(amount for (what, *_), amount in rewards.items() if what == "held")
    lost = {(epoch, kind, name): amount for (what, epoch, kind, name), amount in rewards.items() if what == "lost"}
    assert found.book.state.balances.get("treasury/forfeits", 0) == sum(lost.values())
    for key, amount in lost.items():
        earned = amount + rewards["paid", key[0], key[1], key[2]]
        assert amount <= earned * TENTH // PPM
        assert found.model.state[key] == "forfeited" or not amount
    total = sum(found.book.state.balances.values())
    assert total == found.book.state.supply.minted == EMISSION * found.closes


@given(rows)
@settings(max_examples=60, deadline=None)
def test_a_kind_is_settled_as_a_pool_of_its_own(found: Any) -> None:
    """What a kind pays is what a community of that kind alone would have paid of the same pool."""
    history = History()
    history.close(found)
    for pool in POOLS:
        settled = [one for one in history.facts if isinstance(one, EpochSettled) and (one.kind or "gpu") == pool.kind]
        alone = founded(emission=int(settled[0].pool), rate_cap=int(pool.rate_cap), holdback_ppm=TENTH)
        scores = [ScoredNode(one.node, one.owner, one.micro_rgpu_hours) for one in entries(found, pool.kind)]
        facts = settle(alone, 0, scores)
        (other,) = [one for one in facts if isinstance(one, EpochSettled)]
        assert (other.paid, other.late_reserve, other.kept) == (
            settled[0].paid,
            settled[0].late_reserve,
            settled[0].kept,
        )
        mine = [one for one in history.facts if isinstance(one, RewardsPaid) and (one.kind or "gpu") == pool.kind]
        theirs = [one for one in facts if isinstance(one, RewardsPaid)]
        assert [(one.nodes, one.held) for one in mine] == [(one.nodes, one.held) for one in theirs]
        assert [[p.amount for p in one.postings] for one in mine] == [
            [p.amount for p in one.postings] for one in theirs
        ]
