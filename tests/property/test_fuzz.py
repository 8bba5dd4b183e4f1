"""Evidence deleted, delayed or corrupted never raises pay, over whole histories: metering and the treasury together.

One party's evidence is harmed: readings, hours of heartbeats, spools that come late, announced maintenance, answers to
challenges of devices and of storage; or what the consumer says. What is compared is all that a history pays in the end:
at once, late, and out of what was held back, once everything held was served by challenges.

What is asserted. *Ample* pools (the rate cap binds, every micro-unit earns the same): nobody's pay rises, by not one
unit, and nobody else's changes; but each late score of the unharmed history was rounded down to a micro-unit, which
harm may spare it by bringing two of them together. *Scarce* pools (all of a pool is shared out): the party's pay
never rises above what it earned before anything of it was forfeited - a party with two nodes can leave the share of
one to the other, which then has nothing to lose; others get at most what they would if the party had brought no
readings, which is how a pool is shared. Two base units per node, epoch and kind are the roundings of largest
remainders (docs/decisions/0007).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz_stories import WAYS, Story, absent, harmed, harmed_all, muted
from tests.fuzz_world import OWNERS, Happening, Instance, Terms

PARTIES = tuple(dict.fromkeys(OWNERS.values()))
ROUNDING = 2 * 4 * len(OWNERS)
"""Base units that largest remainders may move in an epoch: two per node and kind."""

seeds = st.randoms(use_true_random=True)
Check = Callable[[Random], None]


def terms_of(random: Random, *, ample: bool) -> Terms:
    """Epochs of an hour or a day, closed at once or later."""
    days = random.random() < 0.3
    return Terms(
        ample=ample,
        epoch_hours=24 if days else 1,
        close_after_hours=random.choice((0, 1, 2, 48)),
        availability=not days and random.random() < 0.5,
        consumers_from_the_start=random.random() < 0.4,
    )


def told(terms: Terms, happenings: Iterable[Happening]) -> Instance:
    return Instance(terms).happen(happenings).finish()


def most(before: Instance, owner: str) -> int:
    """What an owner may have at most where a micro-unit earns 1,000 base units: the roundings of late scores beside."""
    return before.paid[owner] + 1_000 * before.slices[owner]


def ample(random: Random) -> None:
    terms = terms_of(random, ample=True)
    story = Story(random, terms)
    before = told(terms, story.happenings)
    for _ in range(2):
        party = random.choice(PARTIES)
        after = told(terms, harmed(random, story, party))
        for owner in PARTIES:
            assert after.paid[owner] <= most(before, owner), (party, owner, terms)
            if owner != party:
                assert after.paid[owner] == before.paid[owner], (party, owner, terms)
    silent = told(terms, muted(random, story))
    assert all(silent.paid[owner] <= most(before, owner) for owner in PARTIES), terms


def scarce(random: Random) -> None:
    terms = terms_of(random, ample=False)
    story = Story(random, terms)
    before, party = told(terms, story.happenings), random.choice(PARTIES)
    after, without = told(terms, harmed(random, story, party)), told(terms, absent(story, party))
    slack = ROUNDING * len(before.pools)
    assert after.paid[party] <= before.paid[party] + before.lost[party] + slack, (party, terms)
    for owner in PARTIES:
        if owner != party:
            limit = max(one.paid[owner] + one.lost[owner] for one in (before, without))
            assert after.paid[owner] + after.lost[owner] <= limit + slack, (party, owner, terms)
    assert sum(after.paid.values()) <= sum(after.pools.values())


@given(seeds)
@settings(max_examples=10, deadline=None)
def test_harming_evidence_raises_nobodys_pay_where_the_rate_cap_binds(random: Random) -> None:
    ample(random)


@given(seeds)
@settings(max_examples=8, deadline=None)
def test_harming_evidence_raises_ones_pay_out_of_a_shared_pool_by_no_more_than_what_was_forfeited(
    random: Random,
) -> None:
    scarce(random)


@pytest.mark.soak
@pytest.mark.parametrize("check", [ample, scarce])
@pytest.mark.parametrize("first", range(0, 4_000, 500))
def test_thousands_of_histories_with_harmed_evidence_pay_no_more(check: Check, first: int) -> None:
    for seed in range(first, first + 500):
        check(Random(seed))


WORSE = [(what, number) for what, ways in WAYS.items() for number in range(len(dict.fromkeys(ways)))]


@pytest.mark.parametrize(("what", "number"), WORSE)
def test_every_kind_of_evidence_is_harmed_in_every_way_and_some_history_pays_less_for_it(
    what: str, number: int
) -> None:
    way = list(dict.fromkeys(WAYS[what]))[number]
    for seed in range(40):
        random = Random(seed)
        # What comes long after a close counts only where hours do; a delay bites where epochs close at once.
        terms = Terms(close_after_hours=2 if seed % 2 else 0)
        story = Story(random, terms)
        happenings = harmed_all(random, story, what, way)
        if happenings == story.happenings:
            continue
        before, after = told(terms, story.happenings), told(terms, happenings)
        assert all(after.paid[owner] <= most(before, owner) for owner in PARTIES), seed
        if sum(after.paid.values()) < sum(before.paid.values()):
            return
    pytest.fail(f"{way.__name__} {what} changed nothing in any history: the fuzz does not see it")
