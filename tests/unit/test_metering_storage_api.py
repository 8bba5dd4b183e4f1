"""The edge of storage challenges: both signatures, the community, and the size of what is recorded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from events.envelope import MAX_RECORD_BYTES
from events.metering import StorageChallenged
from services.kernel.errors import AuthenticationFailed, InvalidField, MalformedRequest
from services.kernel.jws import b64, sign_jws
from services.kernel.routes import Caller, CommandRoute
from services.metering.api import MAX_JWS
from services.metering.batches import MAX_LEVEL, payload_bytes
from services.metering.commands import RecordStorageChallenge
from services.metering.storage import DRAWN, Answer, Question, chunk_count
from services.metering.storage_api import StorageChallengeBody, storage_routes
from tests.golden.make import record
from tests.metering_world import HOUR, NOW_MS, key_of, member, node, private_key
from tests.storage_world import GENESIS, LEASE, NODE, SECOND, SEED, Stored, content_of


@pytest.fixture
def stored() -> Stored:
    return Stored(content_of(1_000))


@pytest.fixture
def steward(stored: Stored) -> Caller:
    return Caller(member("operator"), key_of("operator").kid, stored.world.spec.directory)


def by(name: str, payload: bytes) -> str:
    return sign_jws(private_key(name), key_of(name).kid, payload)


def command(body: StorageChallengeBody, caller: Caller) -> Any:
    (route,) = storage_routes()
    assert isinstance(route, CommandRoute)
    return route.command(body, caller)


def question(stored: Stored, node_jws: str | None = None, **changes: Any) -> bytes:
    start = NOW_MS + HOUR
    return payload_bytes(stored.question(start, start + SECOND, node_jws, **changes))


def answer(stored: Stored) -> bytes:
    return payload_bytes(stored.answer(NOW_MS + HOUR, NOW_MS + HOUR))


def test_a_challenge_is_signed_by_steward_and_node(stored: Stored, steward: Caller) -> None:
    node_jws = by(NODE, answer(stored))
    body = StorageChallengeBody(challenger_jws=by("operator", question(stored, node_jws)), node_jws=node_jws)
    assert command(body, steward) == RecordStorageChallenge(body.challenger_jws, node_jws)


def test_a_challenge_without_an_answer_is_signed_by_the_steward_alone(stored: Stored, steward: Caller) -> None:
    body = StorageChallengeBody(challenger_jws=by("operator", question(stored)))
    assert command(body, steward) == RecordStorageChallenge(body.challenger_jws, None)


@pytest.mark.parametrize(("challenger", "answerer"), [("provider", NODE), ("operator", "provider"), ("operator", "x")])
def test_a_challenge_signed_with_another_s_key_is_refused(
    stored: Stored, steward: Caller, challenger: str, answerer: str
) -> None:
    node_jws = by(answerer, answer(stored))
    body = StorageChallengeBody(challenger_jws=by(challenger, question(stored, node_jws)), node_jws=node_jws)
    with pytest.raises(AuthenticationFailed):
        command(body, steward)


def test_a_changed_answer_is_refused_for_its_signature(stored: Stored, steward: Caller) -> None:
    head, _, signature = by(NODE, answer(stored)).split(".")
    forged = f"{head}.{b64(answer(stored) + b' ')}.{signature}"
    body = StorageChallengeBody(challenger_jws=by("operator", question(stored, forged)), node_jws=forged)
    with pytest.raises(AuthenticationFailed):
        command(body, steward)


def test_a_challenge_for_another_community_is_refused(stored: Stored, steward: Caller) -> None:
    body = StorageChallengeBody(challenger_jws=by("operator", question(stored, genesis="1" * 64)))
    with pytest.raises(InvalidField):
        command(body, steward)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"seed":"5e', b'"seed":"5E'),
        (b'"seed"', b'"sown"'),
        (b'"node"', b'"node":"x","node"'),
        (b'"end_ms":', b'"end_ms":-'),
        (b'"answer_sha256":null', b'"answer_sha256":"ab"'),
        (b'"answer_sha256":null', b'"answer_sha256":null,"more":1'),
    ],
)
def test_a_challenge_of_another_form_is_malformed(stored: Stored, steward: Caller, old: bytes, new: bytes) -> None:
    payload = question(stored)
    assert old in payload
    body = StorageChallengeBody(challenger_jws=by("operator", payload.replace(old, new)))
    with pytest.raises(MalformedRequest):
        command(body, steward)


def test_the_longest_answer_there_can_be_fits_in_a_record() -> None:
    """16 chunks of the largest content that a lease can name, the numbers in all their digits."""
    count = chunk_count(MAX_LEVEL * 10**6)
    path = tuple(b64(bytes(32)) for _ in range((count - 1).bit_length()))
    late = 2**53 - 1
    chunks = tuple((count - 1, b64(bytes(512)), path) for _ in range(DRAWN))
    made = Answer(GENESIS, "c" * 32, node(NODE), LEASE, SEED, late, late, chunks)
    node_jws = by(NODE, msgspec.json.encode(made))
    asked = Question(GENESIS, "c" * 32, node(NODE), LEASE, SEED, late, late, "a" * 64)
    fact = StorageChallenged(
        node(NODE),
        member("provider"),
        "device/" + "d" * 32,
        LEASE,
        "c" * 32,
        member("operator"),
        passed=True,
        start_ms=late,
        end_ms=late,
        challenger_jws=by("operator", msgspec.json.encode(asked)),
        node_jws=node_jws,
    )
    assert len(node_jws) < MAX_JWS
    assert len(record(node(NODE), fact)) < MAX_RECORD_BYTES - 10_000
