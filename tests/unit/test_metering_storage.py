"""Storage challenges: which answers pass, who may ask, and what time they prove."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from events.metering import LeasesOpened
from services.kernel.decider import Emit
from services.kernel.errors import InvalidField, MalformedRequest
from services.kernel.jws import b64
from services.kernel.snapshot import freeze, thaw
from services.metering.errors import LeaseKeepsNothing, OwnNodeChallenged, ResultKnown, ResultOutOfRange, UnknownLease
from services.metering.state import Metering
from services.metering.storage import CHUNK_BYTES, chunk_count, drawn, passes, proved, read_answer, read_question
from tests.metering_world import DAY, HOUR, MINUTE, NOW_MS, device, member, node
from tests.storage_world import LEASE, NODE, SECOND, SEED, Stored, content_of, shown

SIZE = 70 * CHUNK_BYTES - 100
"""70 chunks, the last one short."""


@pytest.fixture
def stored() -> Stored:
    return Stored(content_of(SIZE))


def spans(stored: Stored) -> list[tuple[int, int]]:
    """What is proved, in milliseconds after the lease's start."""
    return [(start - NOW_MS, end - NOW_MS) for start, end, _ in proved(stored.world.spec.state, stored.lease)]


# --- what is drawn


def test_sixteen_chunks_follow_from_seed_and_lease() -> None:
    assert chunk_count(SIZE) == 70
    one = drawn(SEED, LEASE, 70)
    assert one == drawn(SEED, LEASE, 70)
    assert (len(one), all(0 <= index < 70 for index in one)) == (16, True)
    assert one != drawn(SEED, "0" * 32, 70)
    assert one != drawn("0" * 64, LEASE, 70)
    assert drawn(SEED, LEASE, 1) == (0,) * 16


def test_the_draw_is_the_one_that_is_published() -> None:
    raw = b"".join(len(t).to_bytes(8, "big") + t.encode() for t in (SEED, LEASE, "3"))
    assert drawn(SEED, LEASE, 10**9)[3] == int(sha256(raw).hexdigest()[:16], 16) % 10**9


def test_every_chunk_is_drawn_about_as_often_as_the_others() -> None:
    counts = [0] * 10
    for number in range(1_000):
        for index in drawn(f"{number:064x}", LEASE, 10):
            counts[index] += 1
    assert sum(counts) == 16_000
    assert all(1_450 < count < 1_750 for count in counts)


# --- which answers pass


def test_a_node_that_kept_everything_passes(stored: Stored) -> None:
    fact = stored.challenged(NOW_MS + HOUR)
    assert (fact.passed, fact.node, fact.owner, fact.device) == (True, node(NODE), member("provider"), device(NODE, 9))
    assert (fact.lease, fact.challenger) == (LEASE, member("operator"))
    assert (fact.start_ms, fact.end_ms) == (NOW_MS + HOUR - SECOND, NOW_MS + HOUR)


@pytest.mark.parametrize("size", [1, 511, 512, 513, 1_024, 1_025, 33 * 512])
def test_content_of_any_size_can_be_proved(size: int) -> None:
    assert Stored(content_of(size)).challenged(NOW_MS + HOUR).passed


def spoiled(rows: list[list[Any]], spoil: Callable[[list[list[Any]]], None]) -> list[list[Any]]:
    spoil(rows)
    return rows


def no_chunk(rows: list[list[Any]]) -> None:
    rows[7][1] = b64(bytes(CHUNK_BYTES))


def one_byte(rows: list[list[Any]]) -> None:
    rows[15][1] = ("B" if rows[15][1][0] == "A" else "A") + rows[15][1][1:]


def longer_chunk(rows: list[list[Any]]) -> None:
    rows[0][1] += "AA"


def no_base64(rows: list[list[Any]]) -> None:
    rows[0][1] = "?" * 683


def one_missing(rows: list[list[Any]]) -> None:
    rows.pop()


def one_more(rows: list[list[Any]]) -> None:
    rows.append(rows[0])


def other_order(rows: list[list[Any]]) -> None:
    rows.reverse()


def path_too_short(rows: list[list[Any]]) -> None:
    rows[3][2].pop()


def path_too_long(rows: list[list[Any]]) -> None:
    rows[3][2].append(rows[3][2][0])


def short_hash(rows: list[list[Any]]) -> None:
    rows[3][2][0] = rows[3][2][0][:-4]


@pytest.mark.parametrize(
    "spoil",
    [
        no_chunk,
        one_byte,
        longer_chunk,
        no_base64,
        one_missing,
        one_more,
        other_order,
        path_too_short,
        path_too_long,
        short_hash,
    ],
)
def test_an_answer_that_lacks_or_changes_anything_fails(stored: Stored, spoil: Callable[..., None]) -> None:
    rows = spoiled(shown(stored.content, stored.places()), spoil)
    assert stored.challenged(NOW_MS + HOUR, chunks=rows).passed is False


def test_chunks_of_another_lease_s_content_fail(stored: Stored) -> None:
    rows = shown(content_of(SIZE, "another"), stored.places())
    assert stored.challenged(NOW_MS + HOUR, chunks=rows).passed is False


def test_other_chunks_than_those_drawn_fail(stored: Stored) -> None:
    places = stored.places()
    others = [index for index in range(70) if index not in places][:1]
    rows = shown(stored.content, [*others, *places[1:]])
    assert stored.challenged(NOW_MS + HOUR, chunks=rows).passed is False


def test_true_chunks_under_the_drawn_numbers_of_others_fail(stored: Stored) -> None:
    rows = shown(stored.content, stored.places())
    rows[0][1:] = shown(stored.content, [(rows[0][0] + 1) % 70])[0][1:]
    assert stored.challenged(NOW_MS + HOUR, chunks=rows).passed is False


@pytest.mark.parametrize(("took_ms", "passed"), [(60 * SECOND, True), (60 * SECOND + 1, False)])
def test_an_answer_is_in_time_for_60_seconds(stored: Stored, took_ms: int, *, passed: bool) -> None:
    assert stored.challenged(NOW_MS + HOUR, took_ms=took_ms).passed is passed


def test_an_answer_that_its_node_dates_late_is_late(stored: Stored) -> None:
    end_ms = NOW_MS + HOUR
    jws = stored.answer(end_ms - SECOND, end_ms + MINUTE)
    assert stored.recorded(stored.question(end_ms - SECOND, end_ms, jws), jws, end_ms).passed is False


def test_no_answer_in_60_seconds_fails(stored: Stored) -> None:
    fact = stored.unanswered(NOW_MS + HOUR)
    assert (fact.passed, fact.node_jws) == (False, None)


def test_anyone_can_judge_a_challenge_again_from_its_fact(stored: Stored) -> None:
    for fact in (
        stored.challenged(NOW_MS + HOUR),
        stored.challenged(NOW_MS + 2 * HOUR, chunks=shown(content_of(SIZE, "x"), stored.places())),
    ):
        question = read_question(fact.challenger_jws)
        assert fact.node_jws is not None
        assert passes(question, read_answer(fact.node_jws), stored.lease.fact.content) is fact.passed


# --- what may be recorded


def test_a_steward_who_owns_the_node_is_refused() -> None:
    with pytest.raises(OwnNodeChallenged):
        Stored(content_of(SIZE), owner="operator").challenged(NOW_MS + HOUR)


def test_what_parties_of_one_guild_keep_for_each_other_is_not_challenged() -> None:
    with pytest.raises(InvalidField, match="one guild"):
        Stored(content_of(SIZE), linked="guild").challenged(NOW_MS + HOUR)


def test_the_same_challenge_counts_once(stored: Stored) -> None:
    end_ms = NOW_MS + HOUR
    jws = stored.answer(end_ms - SECOND, end_ms)
    question = stored.question(end_ms - SECOND, end_ms, jws)
    stored.recorded(question, jws, end_ms)
    with pytest.raises(ResultKnown):
        stored.recorded(question, jws, end_ms + SECOND)
    failure = stored.question(end_ms - MINUTE, end_ms, None, challenge=read_question(question).challenge)
    with pytest.raises(ResultKnown):
        stored.recorded(failure, None, end_ms)


@pytest.mark.parametrize(
    "changes",
    [{"challenge": "f" * 32}, {"seed": "0" * 64}, {"lease": "x"}, {"node": "x"}, {"genesis": "1" * 64}, {"began": 1}],
)
def test_the_answer_to_another_challenge_is_refused(stored: Stored, changes: dict[str, Any]) -> None:
    end_ms = NOW_MS + HOUR
    began = changes.pop("began", end_ms - SECOND)
    jws = stored.answer(began, end_ms, **changes)
    with pytest.raises(InvalidField, match="another challenge"):
        stored.recorded(stored.question(end_ms - SECOND, end_ms, jws), jws, end_ms)


def test_an_answer_that_the_challenger_did_not_sign_for_is_refused(stored: Stored) -> None:
    end_ms = NOW_MS + HOUR
    jws = stored.answer(end_ms - MINUTE, end_ms)
    for signed_for, sent in ((jws, None), (None, jws), (jws + "x", jws)):
        question = stored.question(end_ms - MINUTE, end_ms, signed_for)
        with pytest.raises(InvalidField, match="another answer"):
            stored.recorded(question, sent, end_ms)


def test_an_answer_that_does_not_parse_is_refused(stored: Stored) -> None:
    end_ms = NOW_MS + HOUR
    jws = stored.answer(end_ms - SECOND, end_ms, challenge="no id")
    with pytest.raises(MalformedRequest):
        stored.recorded(stored.question(end_ms - SECOND, end_ms, jws), jws, end_ms)


def test_a_steward_waits_60_seconds_before_a_node_gave_no_answer(stored: Stored) -> None:
    question = stored.question(NOW_MS + HOUR - 60 * SECOND + 1, NOW_MS + HOUR, None)
    with pytest.raises(InvalidField, match="60 s"):
        stored.recorded(question, None, NOW_MS + HOUR)


@pytest.mark.parametrize(("late_ms", "refused"), [(HOUR, False), (HOUR + 1, True), (-5_000, False), (-5_001, True)])
def test_a_challenge_is_recorded_within_an_hour_of_its_end(stored: Stored, late_ms: int, *, refused: bool) -> None:
    end_ms = NOW_MS + HOUR
    if refused:
        with pytest.raises(ResultOutOfRange):
            stored.challenged(end_ms, at_ms=end_ms + late_ms)
    else:
        assert stored.challenged(end_ms, at_ms=end_ms + late_ms).passed


@pytest.mark.parametrize("end_ms", [NOW_MS + SECOND - 1, NOW_MS + DAY + SECOND])
def test_a_challenge_starts_inside_the_lease(stored: Stored, end_ms: int) -> None:
    with pytest.raises(ResultOutOfRange):
        stored.challenged(end_ms)
    assert stored.challenged(end_ms + (1 if end_ms < NOW_MS + DAY else -1)).passed


def test_a_challenge_ends_after_it_starts(stored: Stored) -> None:
    with pytest.raises(InvalidField):
        stored.challenged(NOW_MS + HOUR, took_ms=0)


def test_an_unknown_lease_another_node_and_a_lease_without_content_are_refused(stored: Stored) -> None:
    start, end = NOW_MS + HOUR - MINUTE, NOW_MS + HOUR
    for changes in ({"lease": "f" * 32}, {"node": node("two")}):
        with pytest.raises(UnknownLease):
            stored.recorded(stored.question(start, end, None, **changes), None, end)
    plain = stored.world.at(NOW_MS).spec.state.leases[LEASE].fact
    fields = {name: getattr(plain, name) for name in plain.__struct_fields__ if name != "content"}
    other = type(plain)(**{**fields, "lease": "f" * 32, "kind": "gpu"})
    stored.world.spec.given(Emit("project/project", LeasesOpened("project", member("consumer"), (other,), "jws")))
    with pytest.raises(LeaseKeepsNothing):
        stored.recorded(stored.question(start, end, None, lease="f" * 32), None, end)


# --- what it proves


def test_a_passed_challenge_proves_the_time_since_the_last_one(stored: Stored) -> None:
    assert spans(stored) == []
    stored.challenged(NOW_MS + 2 * HOUR)
    assert spans(stored) == [(0, 2 * HOUR)]
    stored.challenged(NOW_MS + 5 * HOUR)
    assert spans(stored) == [(0, 5 * HOUR)]


def test_a_failed_challenge_proves_nothing_and_starts_anew(stored: Stored) -> None:
    stored.challenged(NOW_MS + 2 * HOUR)
    stored.unanswered(NOW_MS + 4 * HOUR)
    stored.challenged(NOW_MS + 5 * HOUR)
    assert spans(stored) == [(0, 2 * HOUR), (4 * HOUR, 5 * HOUR)]


def test_a_challenge_proves_24_hours_at_most(stored: Stored) -> None:
    world = stored.world
    lease = world.spec.state.leases[LEASE]
    fields = {name: getattr(lease.fact, name) for name in lease.fact.__struct_fields__}
    longer = type(lease.fact)(**{**fields, "lease": "e" * 32, "start_ms": NOW_MS, "end_ms": NOW_MS + 3 * DAY})
    world.spec.given(Emit("project/project", LeasesOpened("project", member("consumer"), (longer,), "jws")))
    end_ms = NOW_MS + 2 * DAY
    rows = shown(stored.content, drawn(SEED, "e" * 32, 70))
    jws = stored.answer(end_ms - SECOND, end_ms, rows, lease="e" * 32)
    assert stored.recorded(stored.question(end_ms - SECOND, end_ms, jws, lease="e" * 32), jws, end_ms).passed
    assert proved(world.spec.state, world.spec.state.leases["e" * 32]) == [(NOW_MS + DAY, end_ms, 0)]


def test_nothing_is_proved_after_the_lease_s_end(stored: Stored) -> None:
    stored.challenged(NOW_MS + DAY + 10 * SECOND, took_ms=20 * SECOND)
    assert spans(stored) == [(0, DAY)]


def test_the_order_in_which_challenges_are_recorded_does_not_matter() -> None:
    def passes_at(minute: int) -> Callable[[Stored], Any]:
        return lambda stored: stored.challenged(NOW_MS + minute * MINUTE, at_ms=NOW_MS + HOUR)

    def fails_at(minute: int) -> Callable[[Stored], Any]:
        return lambda stored: stored.unanswered(NOW_MS + minute * MINUTE, at_ms=NOW_MS + HOUR)

    found = set()
    for order in itertools.permutations([passes_at(10), fails_at(20), passes_at(30), fails_at(30), passes_at(50)]):
        made = Stored(content_of(100))
        for record in order:
            record(made)
        found.add(tuple(spans(made)))
    # What passed and failed in one instant proves nothing.
    assert found == {((0, 10 * MINUTE), (30 * MINUTE, 50 * MINUTE))}


def test_a_challenge_proves_nothing_in_an_epoch_that_was_closed_when_it_came() -> None:
    """An instance that closes its epochs at once: what comes later counts from the next epoch's start on."""
    stored = Stored(content_of(SIZE), start_ms=NOW_MS + 12 * HOUR, close_after_seconds=0)
    stored.challenged(NOW_MS + 14 * HOUR)
    epoch = stored.world.spec.state.grid.epoch_of(NOW_MS)
    stored.world.at(NOW_MS + DAY).close(epoch)
    stored.challenged(NOW_MS + 23 * HOUR + 30 * MINUTE, at_ms=NOW_MS + DAY)
    assert spans(stored) == [(12 * HOUR, 14 * HOUR)]
    stored.challenged(NOW_MS + 25 * HOUR)
    assert spans(stored) == [(12 * HOUR, 14 * HOUR), (24 * HOUR, 25 * HOUR)]


def test_a_challenge_is_one_trial_of_device_and_owner(stored: Stored) -> None:
    stored.challenged(NOW_MS + 2 * HOUR)
    stored.unanswered(NOW_MS + 4 * HOUR)
    records = stored.world.spec.state.records
    for subject, owner in ((device(NODE, 9), member("provider")), (member("provider"), None)):
        won, lost, count = (sum(trial[i] for trial in records[subject].challenges) for i in (1, 2, 3))
        assert (won, lost, count, records[subject].owner) == (1, 1, 2, owner)


def test_proofs_stand_in_snapshots_and_go_with_their_lease(stored: Stored) -> None:
    stored.challenged(NOW_MS + 2 * HOUR)
    spec = stored.world.spec
    assert thaw(freeze(spec.state), Metering) == spec.state
    first = spec.state.grid.epoch_of(NOW_MS)
    for epoch in range(first, first + 45):
        assert (LEASE in spec.state.proofs) == (LEASE in spec.state.leases)
        stored.world.at(spec.state.grid.end(epoch) + 2 * DAY).close(epoch)
    assert len(spec.state.proofs) == len(spec.state.leases) == 0
