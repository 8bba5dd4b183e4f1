"""Recording storage challenges: whether the node kept what its lease names (METERING "Epochs, score, rewards")."""

from __future__ import annotations

from typing import Final

from events.metering import Content, StorageChallenged
from events.values import HOUR_MS
from services.kernel.decider import Context, Decision, Emit
from services.kernel.errors import InvalidField
from services.metering.commands import RecordStorageChallenge
from services.metering.errors import (
    LeaseKeepsNothing,
    NotAdopted,
    OwnNodeChallenged,
    ResultKnown,
    ResultOutOfRange,
    UnknownLease,
)
from services.metering.state import LeaseState, Metering
from services.metering.storage import ANSWER_MS, Question, answer_sha256, belongs, passes, read_answer, read_question

MAX_AGE_MS: Final = HOUR_MS
MAX_AHEAD_MS: Final = 5_000
"""Clocks that differ by more are not to be trusted; what has not happened yet proves nothing."""


def record_storage_challenge(command: RecordStorageChallenge, state: Metering, context: Context) -> Decision:
    """Record one challenge of a storage lease with whether the node passed it: late, wrong and no answers fail."""
    if state.rules is None:
        raise NotAdopted("genesis comes first")
    question = read_question(command.challenger_jws)
    lease = state.leases.get(question.lease)
    if lease is None or lease.fact.node != question.node:
        raise UnknownLease("the node has no such lease", lease=question.lease[:64], node=question.node[:64])
    content = lease.fact.content
    if not content or not lease.fact.devices:
        raise LeaseKeepsNothing("only a storage lease names what it keeps", lease=question.lease)
    if lease.fact.linked is not None:
        # Keeping one's own bytes earns nothing, and a trial passed on them would lift reliability for everything else.
        raise InvalidField(f"a lease between parties with one {lease.fact.linked} is not challenged", field="lease")
    if context.actor == lease.fact.owner:
        raise OwnNodeChallenged("the owner of a node does not challenge it", node=question.node)
    _check_times(question, lease, context.time_ms)
    if any(proof.challenge == question.challenge for proof in state.proofs.get(question.lease, ())):
        raise ResultKnown("the lease has a proof of this challenge", challenge=question.challenge)
    passed = _passed(question, command.node_jws, content)
    fact = StorageChallenged(
        question.node,
        lease.fact.owner,
        lease.fact.devices[0].device,
        question.lease,
        question.challenge,
        context.actor,
        passed,
        question.start_ms,
        question.end_ms,
        command.challenger_jws,
        command.node_jws,
    )
    answer = {"challenge": question.challenge, "lease": question.lease, "node": question.node, "passed": passed}
    return Decision([Emit(question.node, fact)], answer)


def _check_times(question: Question, lease: LeaseState, now_ms: int) -> None:
    start, end = question.start_ms, question.end_ms
    if start >= end:
        raise InvalidField("a challenge ends after it starts", field="end_ms")
    if not now_ms - MAX_AGE_MS <= end <= now_ms + MAX_AHEAD_MS:
        raise ResultOutOfRange(
            "a challenge is recorded within an hour of its end, and not before it", end_ms=end, now_ms=now_ms
        )
    if not lease.fact.start_ms <= start < lease.end_ms:
        raise ResultOutOfRange("a challenge starts inside the lease", start_ms=lease.fact.start_ms, end_ms=lease.end_ms)
    if question.answer_sha256 is None and end - start < ANSWER_MS:
        raise InvalidField("a node has 60 s before it gave no answer", field="end_ms", least_ms=start + ANSWER_MS)


def _passed(question: Question, node_jws: str | None, content: Content) -> bool:
    """Apply the rule to an answer, after making sure that it is the one the challenger names."""
    if question.answer_sha256 != (None if node_jws is None else answer_sha256(node_jws)):
        raise InvalidField("the challenger signed for another answer, or for none", field="node_jws")
    if node_jws is None:
        return False
    answer = read_answer(node_jws)
    if not belongs(answer, question):
        raise InvalidField("the node answered another challenge", field="node_jws")
    return passes(question, answer, content)
