"""Storage proofs (METERING "Epochs, score, rewards"): chunks drawn from a seed, the answer, what it proves.

A challenger draws a seed and signs a `Question`; 16 chunks of the lease's content follow from seed and lease. The node
has 60 s to sign an `Answer` with these chunks and their audit paths. An auditor needs nothing but the fact
(`StorageChallenged`) and the lease's content to judge it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Final, TypeVar

import msgspec

from events.metering import Content, StorageChallenged
from events.values import DAY_MS
from services.kernel.errors import MalformedRequest
from services.kernel.jws import unb64
from services.kernel.strict_json import parse_json
from services.metering.batches import payload_bytes
from services.metering.merkle import leaf_hash, root_by_path
from services.metering.reliability import with_challenge
from services.metering.state import LeaseState, Metering, Proof

CHUNK_BYTES: Final = 512
DRAWN: Final = 16
ANSWER_MS: Final = 60_000
"""A node answers within this."""

BACK_MS: Final = DAY_MS
"""How far back a passed challenge proves at most."""

HASH_BYTES: Final = 32

_Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
_Sha = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
_Millis = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
T = TypeVar("T")


class Question(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the challenger signs: whom it asked from which seed, when, and the SHA-256 of the answer (the JWS as text).

    `answer_sha256` is None where no answer came in time; `end_ms` is when it came or was given up.
    """

    genesis: str
    challenge: _Id
    node: str
    lease: str
    seed: _Sha
    start_ms: _Millis
    end_ms: _Millis
    answer_sha256: _Sha | None


class Answer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the node signs: the same challenge, when it answered, and `[index, chunk, [path hashes]]` as drawn.

    Chunks (512 bytes, the last one padded by zeros) and hashes (leaf to root) are base64url without padding.
    """

    genesis: str
    challenge: _Id
    node: str
    lease: str
    seed: _Sha
    start_ms: _Millis
    end_ms: _Millis
    chunks: tuple[tuple[int, str, tuple[str, ...]], ...]


def read_question(jws: str) -> Question:
    """Return what a challenger signed. Raises MalformedRequest."""
    return _read(jws, Question)


def read_answer(jws: str) -> Answer:
    """Return what a node signed. Raises MalformedRequest."""
    return _read(jws, Answer)


def _read(jws: str, kind: type[T]) -> T:
    try:
        return msgspec.convert(parse_json(payload_bytes(jws)), kind)
    except msgspec.ValidationError as error:
        raise MalformedRequest(f"the signed {kind.__name__.lower()} does not parse: {error}") from error


def answer_sha256(node_jws: str) -> str:
    """Return what a question names its answer by."""
    return hashlib.sha256(node_jws.encode()).hexdigest()


def belongs(answer: Answer, question: Question) -> bool:
    """Tell whether an answer is one to this very challenge."""
    return all(
        getattr(answer, name) == getattr(question, name)
        for name in ("genesis", "challenge", "node", "lease", "seed", "start_ms")
    )


def chunk_count(size: int) -> int:
    """Return how many chunks so many bytes have."""
    return -(-size // CHUNK_BYTES)


def drawn(seed: str, lease: str, count: int) -> tuple[int, ...]:
    """Return the 16 chunks, of `count`, that follow from a seed (hex) for a lease; one may be drawn twice.

    The i-th is SHA-256 over seed, lease and i as texts, each after its length in 8 bytes; of it the first 8 bytes,
    big endian, modulo the count.
    """
    return tuple(_draw((seed, lease, str(i))) % count for i in range(DRAWN))


def _draw(parts: Sequence[str]) -> int:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part.encode()).to_bytes(8, "big") + part.encode())
    return int.from_bytes(digest.digest()[:8], "big")


def passes(question: Question, answer: Answer, content: Content) -> bool:
    """Tell whether an answer came in time, by both sides' word, and shows every drawn chunk under the root."""
    if max(question.end_ms, answer.end_ms) - question.start_ms > ANSWER_MS:
        return False
    count = chunk_count(content.bytes)
    places = drawn(question.seed, question.lease, count)
    if tuple(index for index, _, _ in answer.chunks) != places:
        return False
    return all(_leads(index, count, chunk, path, content.root) for index, chunk, path in answer.chunks)


def _leads(index: int, count: int, chunk: str, path: Sequence[str], root: str) -> bool:
    try:
        raw, hashes = unb64(chunk), [unb64(one) for one in path]
    except ValueError:
        return False
    if len(raw) != CHUNK_BYTES or any(len(one) != HASH_BYTES for one in hashes):
        return False
    found = root_by_path(leaf_hash(raw), index, count, hashes)
    return found is not None and found.hex() == root


def proved(state: Metering, lease: LeaseState) -> Sequence[tuple[int, int, int]]:
    """Return the spans of a lease in which its content was proved to be there, as `(start, end, 0)` in order.

    A passed challenge proves the time since the lease's start or its last failed challenge, at most a day; a failed
    one proves nothing. What was closed when a challenge was recorded it proves no more. So it does not matter in which
    order challenges were recorded, and neither losing a passed one nor being late with it ever proves more.
    """
    spans: list[tuple[int, int, int]] = []
    since = lease.fact.start_ms
    for proof in state.proofs.get(lease.fact.lease, ()):
        if not proof.passed:
            since = max(since, proof.end_ms)
            continue
        end = min(proof.end_ms, lease.end_ms)
        start = max(since, end - BACK_MS, proof.from_ms)
        if start < end:
            while spans and spans[-1][1] >= start:
                start = min(start, spans.pop()[0])
            spans.append((start, end, 0))
    return spans


def fold_challenge(state: Metering, fact: StorageChallenged) -> Metering:
    """Keep what a challenge says about its lease, and add one trial of device and owner."""
    proof = Proof(fact.end_ms, fact.passed, fact.challenge, state.grid.start(state.next_live))
    known = sorted((*state.proofs.get(fact.lease, ()), proof), key=_by_date)
    tick = state.grid.tick_of(fact.end_ms)
    return replace(
        state,
        proofs=state.proofs.set(fact.lease, tuple(known)),
        records=with_challenge(state.records, tick, fact.device, fact.owner, passed=fact.passed),
    )


def _by_date(proof: Proof) -> tuple[int, bool, str]:
    # Of two that ended at once the failed one comes first: then the other proves nothing.
    return (proof.end_ms, proof.passed, proof.challenge)


def without_forgotten(state: Metering) -> Metering:
    """Return the state without the proofs of leases it knows no more."""
    forgotten = [lease for lease in state.proofs if lease not in state.leases]
    if not forgotten:
        return state
    proofs = state.proofs.mutate()
    for lease in forgotten:
        del proofs[lease]
    return replace(state, proofs=proofs.finish())
