"""The route of storage challenges: both signatures are checked here, against the living keys of steward and node."""

from __future__ import annotations

from typing import Annotated

import pydantic

from services.kernel.errors import InvalidField
from services.kernel.routes import Body, Caller, CommandRoute, Route
from services.metering.api import MAX_JWS, verified
from services.metering.commands import RecordStorageChallenge
from services.metering.storage import read_question


class StorageChallengeBody(Body):
    """Two compact JWS (docs/agent.md): the calling steward's question and, when the node answered in time, its answer.

    The question names the answer it got by the SHA-256 of its text, or null.
    """

    challenger_jws: Annotated[str, pydantic.Field(max_length=MAX_JWS)]
    node_jws: Annotated[str, pydantic.Field(max_length=MAX_JWS)] | None = None


def _record(body: StorageChallengeBody, caller: Caller) -> RecordStorageChallenge:
    verified(body.challenger_jws, caller.actor, caller)
    question = read_question(body.challenger_jws)
    if question.genesis != caller.directory.genesis_sha256:
        raise InvalidField("the challenge is signed for another community", field="genesis")
    if body.node_jws is not None:
        verified(body.node_jws, question.node, caller)
    return RecordStorageChallenge(body.challenger_jws, body.node_jws)


def storage_routes() -> tuple[Route, ...]:
    """Return the route that storage challenges come in by."""
    return (
        CommandRoute(
            "RecordStorageChallenge",
            "/v1/metering/storage-challenges",
            "challenges.record",
            StorageChallengeBody,
            _record,
            summary="Record one challenge of a storage lease",
        ),
    )
