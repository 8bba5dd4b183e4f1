"""Histories drawn at random, believable ones: what an honest community might see; and what is done to evidence.

Readings are what was there: never above the lease's share, never two that disagree. Then nothing that is taken away
was in the way of something better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from events.registry_terms import KINDS, DeviceKind
from tests.fuzz_world import (
    FIRST_HOUR,
    KIND_OF,
    OWNERS,
    Happening,
    Instance,
    Row,
    Terms,
    numbers_of,
    speed,
    spool_of,
)
from tests.metering_world import HOUR, MINUTE, NOW_MS, device, lease_id, node

HOURS = (5, 6, 12)
"""How many hours of leases a story has; its first one only has challenges."""

SLOT = 5 * MINUTE
SHARES: dict[DeviceKind, tuple[int, ...]] = {
    "gpu": (1_000, 600, 400),
    "cpu": (8_000, 3_000),
    "storage": (1,),
    "bandwidth": (12_500, 5_000),
}
Rows = tuple[Row, ...]


class Story:
    """One history: its terms, and all that happens in it."""

    def __init__(self, random: Random, terms: Terms) -> None:
        """Draw a history. Where epochs last a day, its hours lie 29 apart, so that evidence ages."""
        self.random, self.terms = random, terms
        self.stretch = 1 if terms.epoch_hours == 1 else 29
        self.hours = random.choice(HOURS)
        self.happenings: list[Happening] = []
        self._leases()
        self._evidence()
        self._others()

    def add(self, at_ms: int, what: str, name: str, data: Any, *, own: bool = True) -> None:
        by = OWNERS[name] if own and name else ""
        self.happenings.append(Happening(at_ms, len(self.happenings), by, what, name, data))

    def start(self, hour: int) -> int:
        """When an hour of the story begins."""
        return NOW_MS + hour * self.stretch * HOUR

    def chance(self, percent: int) -> bool:
        return self.random.randrange(100) < percent

    def _leases(self) -> None:
        """Ask for leases, then see where they were placed."""
        random = self.random
        for number in range(random.randint(3, self.hours + 3)):
            kind = random.choice((*KINDS, "gpu"))
            first = random.randint(1, self.hours - 1)
            hours = random.randint(1, min(3, self.hours - first)) if self.stretch == 1 else 1
            start = self.start(first)
            share = random.choice(SHARES[kind])
            self.add(start - 2 * MINUTE, "lease", "", (f"l{number}", kind, start, start + hours * HOUR, share, None))
            if hours == 1 and self.stretch == 1 and self.chance(15):
                end = start + 2 * HOUR
                data = (f"r{number}", kind, start + HOUR, end, share, f"l{number}")
                self.add(start + 50 * MINUTE, "lease", "", data)
            if self.chance(15):
                self.add(start + random.randint(10, 55) * MINUTE, "cancel", "", f"l{number}")
        self.placed = Instance(self.terms).happen(self.happenings)
        asked = {one.data[0]: one.data[1:4] for one in self.happenings if one.what == "lease"}
        self.leases = {name: (lease, *asked[name][1:]) for name, lease in self.placed.leases.items()}

    def _truth(self, name: str, hour: int) -> Rows:
        """What a node measured in an hour: a level for most slots of each of its leases."""
        begin, rows = self.start(hour), list[Row]()
        cancelled = {one.data: one.at_ms for one in self.happenings if one.what == "cancel"}
        for key, (lease, start, end) in sorted(self.leases.items()):
            until = min(end, cancelled.get(key, end))
            if lease.node != node(name) or start >= begin + HOUR or end <= begin:
                continue
            holes = self.chance(25)
            for slot in range(begin, begin + HOUR, SLOT):
                if slot + SLOT > until or (holes and self.chance(30)):
                    continue
                level = lease.share if self.chance(90) else self.random.choice((0, lease.share // 2))
                rows += [(one.device, lease.lease, slot, slot + SLOT, level) for one in lease.devices]
        return tuple(rows)

    def _evidence(self) -> None:
        for hour in range(self.hours):
            seen: list[Row] = []
            for name in OWNERS:
                self._challenges(name, hour)
                away = self.chance(8)
                if away and hour >= 2:
                    self.add(self.start(hour) - 90 * MINUTE, "maintenance", name, self._hour(hour))
                truth = () if away else self._truth(name, hour)
                self._hour_of(name, hour, truth, away=away)
                seen += truth
            self._consumer(hour, seen)
        if self.stretch == 1 and self.terms.availability:
            for hour in range(self.hours, self.hours + 3):
                for name in OWNERS:
                    self._hour_of(name, hour, (), away=False)

    def _hour(self, hour: int) -> int:
        return FIRST_HOUR + hour * self.stretch

    def _hour_of(self, name: str, hour: int, truth: Rows, *, away: bool) -> None:
        over, random = self.start(hour) + HOUR, self.random
        offline = self.chance(15)
        if truth and not offline:
            cut = random.randint(0, len(truth))
            for part in (truth[:cut], truth[cut:]):
                if part:
                    self.add(over + random.randint(-4, 40) * MINUTE, "readings", name, part)
            if self.chance(20):
                halves = tuple(
                    (*row[:2], at, at + SLOT // 2, row[4]) for row in truth for at in (row[2], row[2] + SLOT // 2)
                )
                self.add(over + random.randint(1, 50) * MINUTE, "readings", name, halves)
        if away:
            return  # a node that is at work in an hour it announced gives up the trial it would win
        minutes = (1 << (60 if self.chance(90) else random.randint(50, 60))) - 1
        sha = spool_of(name, self._hour(hour), truth)
        if self.chance(95):
            self.add(over + random.randint(1, 50) * MINUTE, "hour", name, (self._hour(hour), minutes, sha))
        if truth and (offline or self.chance(10)):
            late = over + random.randint(65, 400) * MINUTE
            self.add(late, "spool", name, (self._hour(hour), sha, truth, random.randint(1, 2)))

    def _challenges(self, name: str, hour: int) -> None:
        begin = self.start(hour)
        rounds = (10, 20, 30) if hour == 0 and self.chance(80) else (40,)
        for minute in rounds:
            if hour == 0 or self.chance(35):
                end, bad = begin + minute * MINUTE, 4 if hour == 0 else 10
                answers = [
                    (number, end, None if self.chance(bad) else speed(KIND_OF[number], self.random.randint(97, 103)))
                    for number in numbers_of(name)
                ]
                self.add(end + self.random.randint(1, 50) * MINUTE, "challenge", name, tuple(answers))
        for key, (lease, start, end) in sorted(self.leases.items()):
            if lease.kind == "storage" and lease.node == node(name) and start <= begin < end and not lease.linked:
                for minute in (25, 55):
                    if self.chance(70):
                        took = 0 if self.chance(10) else 1_000
                        over = begin + minute * MINUTE
                        self.add(over + self.random.randint(0, 50) * MINUTE, "storage", name, (key, over, took, True))

    def _consumer(self, hour: int, seen: Sequence[Row]) -> None:
        """The consumer says what it saw: of bandwidth at times less, of a lease of which nothing was measured 0."""
        over = self.start(hour) + HOUR
        kinds = {lease.lease: lease.kind for lease, _, _ in self.leases.values()}
        rows: list[Row] = []
        measured = {row[:3] for row in seen}
        for row in seen:
            if kinds[row[1]] == "bandwidth":
                rows.append((*row[:4], row[4] if self.chance(80) else row[4] // 2))
            elif self.terms.consumers_from_the_start:
                rows.append(row)
        for lease, start, end in self.leases.values():
            for slot in range(max(start, over - HOUR), min(end, over), SLOT):
                unread = [one.device for one in lease.devices if (one.device, lease.lease, slot) not in measured]
                rows += [(one, lease.lease, slot, slot + SLOT, 0) for one in unread]
        if rows and (self.terms.consumers_from_the_start or self.chance(90)):
            self.add(over + self.random.randint(1, 100) * MINUTE, "consumer", "", tuple(rows))

    def _others(self) -> None:
        """What stewards do: disputes, and rulings."""
        for _ in range(self.random.randint(0, 2)):
            name, hour = self.random.choice(list(OWNERS)), self.random.randint(1, self.hours - 1)
            epoch = self.placed.spec.state.grid.epoch_of(self.start(hour))
            ruling = self.random.choice(("upheld", "dismissed"))
            self.add(
                self.start(hour) + self.random.randint(0, 240) * MINUTE, "dispute", name, (epoch, ruling), own=False
            )
        if self.chance(50):
            self.add(self.start(self.hours) + self.random.randint(0, 300) * MINUTE, "rule", "", None)


# What can be done to evidence. Each returns what is left of a happening, None where nothing is.

VOUCHED = 1
"""Said of readings beside which the consumer's stand: a level that is overstated is no gain."""

Harm = Callable[[Random, Happening, int], Happening | None]


def deleted(_random: Random, _one: Happening, _vouched: int) -> None:
    """Take it away."""
    return


def delayed(random: Random, one: Happening, _vouched: int) -> Happening:
    """Bring it later."""
    return replace(one, at_ms=one.at_ms + random.choice((20, 45, 65, 125, 190, 400, 1_500)) * MINUTE)


def _row(random: Random, one: Happening, rows: Rows, change: Callable[[Row], Sequence[Row]]) -> Rows:
    at = random.randrange(len(rows))
    more = random.choice((1, 3, len(rows)))
    return tuple(new for i, row in enumerate(rows) for new in (change(row) if at <= i < at + more else (row,)))


def _spoilt(random: Random, vouched: int) -> Callable[[Row], Sequence[Row]]:
    ways: list[Callable[[Row], Sequence[Row]]] = [
        lambda row: (),
        lambda row: ((*row[:4], row[4] // 2),),
        lambda row: ((*row[:4], 0),),
        lambda row: ((*row[:4], 1_000_001),),
        lambda row: ((*row[:3], row[3] + SLOT, row[4]),),
        lambda row: ((*row[:2], row[3], row[2], row[4]),),
        lambda row: ((device("nobody"), *row[1:]),),
        lambda row: ((row[0], lease_id("none"), *row[2:]),),
        lambda row: ((*row[:2], row[2] + 40 * 24 * HOUR, row[3] + 40 * 24 * HOUR, row[4]),),
        lambda row: ((*row[:3], row[2] + MINUTE, row[4]),),
        lambda row: (row, (*row[:4], row[4] // 3)),
    ]
    if vouched:
        ways.append(lambda row: ((*row[:4], row[4] * 2 + 500),))
    return random.choice(ways)


def corrupted(random: Random, one: Happening, vouched: int) -> Happening | None:
    """Spoil it."""
    data = one.data
    if one.what == "readings":
        rows = _row(random, one, data, _spoilt(random, vouched))
        return replace(one, data=rows) if rows else None
    if one.what == "spool":
        hour, sha, rows, parts = data
        ways = [
            (hour, sha, _row(random, one, rows, _spoilt(random, vouched)), parts),
            (hour, "00" * 32, rows, parts),
            (hour + 1, sha, rows, parts),
            (hour, sha, rows[: len(rows) // 2], parts),
            (hour, sha, rows[::-1], parts),
        ]
        found = random.choice(ways)
        return replace(one, data=found) if len(found[2]) >= parts else None
    if one.what == "hour":
        hour, minutes, sha = data
        return replace(one, data=random.choice([(hour, minutes >> 5, sha), (hour, minutes, "ff" * 32), (hour, 0, sha)]))
    if one.what == "challenge":
        at = random.randrange(len(data))
        worse = random.choice((None, None, "50", "1"))
        return replace(one, data=tuple((*a[:2], worse) if i == at else a for i, a in enumerate(data)))
    if one.what == "storage":
        lease, end, took, good = data
        ways = [(lease, end, 0, good), (lease, end, took, False), (lease, end, 70_000 if took else 0, good)]
        return replace(one, data=random.choice(ways))
    return None


def unanswered(_random: Random, one: Happening, _vouched: int) -> Happening | None:
    """An answer that is taken away leaves a challenge without one: the challenger says so."""
    if one.what == "challenge":
        return replace(one, data=tuple((*answer[:2], None) for answer in one.data))
    lease, end, _, good = one.data
    return replace(one, data=(lease, end, 0, good))


WAYS: dict[str, tuple[Harm, ...]] = {
    "readings": (deleted, delayed, corrupted, corrupted),
    "spool": (deleted, delayed, corrupted),
    "hour": (deleted, delayed, corrupted),
    "maintenance": (deleted, delayed),
    "challenge": (unanswered, corrupted, corrupted),
    "storage": (unanswered, corrupted),
}
"""What can be done to each kind of evidence."""


def harmed(random: Random, story: Story, owner: str) -> list[Happening]:
    """The story with some of an owner's evidence deleted, delayed or corrupted."""
    own = [one for one in story.happenings if one.by == owner]
    picked = {one.number for one in random.sample(own, min(len(own), random.choice((1, 1, 2, 3, 8, 30))))}
    if random.randrange(4) == 0:
        what, since = random.choice(sorted(WAYS)), story.start(random.randint(0, story.hours))
        picked |= {one.number for one in own if one.what == what and one.at_ms >= since}
    return _done(random, story, picked, None)


def harmed_all(random: Random, story: Story, what: str, way: Harm) -> list[Happening]:
    """The story with all evidence of a kind harmed in one way, whoever brought it."""
    return _done(random, story, {one.number for one in story.happenings if one.what == what}, way)


def _done(random: Random, story: Story, picked: set[int], way: Harm | None) -> list[Happening]:
    kinds = {lease.lease: lease.kind for lease, _, _ in story.leases.values()}
    found: list[Happening] = []
    for one in story.happenings:
        left: Happening | None = one
        if one.number in picked:
            rows = one.data if one.what == "readings" else one.data[2] if one.what == "spool" else ()
            known = story.terms.consumers_from_the_start or all(kinds[row[1]] == "bandwidth" for row in rows)
            vouched = VOUCHED if known else 0
            left = (way or random.choice(WAYS[one.what]))(random, one, vouched)
        if left is not None:
            found.append(left)
    return found


def muted(random: Random, story: Story) -> list[Happening]:
    """The story with some of what the consumer says taken away or brought later."""
    found: list[Happening] = []
    for one in story.happenings:
        left = one if one.what != "consumer" else random.choice((one, None, delayed(random, one, 0)))
        if left is not None:
            found.append(left)
    return found


def absent(story: Story, owner: str) -> list[Happening]:
    """The story as if an owner had brought no readings at all."""
    return [one for one in story.happenings if one.by != owner or one.what not in {"readings", "spool"}]
