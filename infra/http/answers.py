"""Makes answers: JSON, problems, and the acknowledgement that goes with every answer to a command."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from events.envelope import time_text
from infra.http.authentication import Who
from infra.http.incoming import JSON, Incoming
from infra.http.parts import Parts
from services.kernel.acks import HEADER, Ack, request_hash
from services.kernel.problems import MEDIA_TYPE, Problem, problem
from services.kernel.unit import Accepted

POSITION: Final = "Commons-Position"
HIT: Final = "Idempotency-Hit"

_LOG: Final = logging.getLogger(__name__)


def json_answer(body: Any, headers: Mapping[str, str] | None = None) -> Response:
    """Return 200 with the JSON of `body`."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Response(raw, media_type=JSON, headers=dict(headers or {}))


def problem_answer(found: Problem, headers: Mapping[str, str] | None = None) -> Response:
    """Return a problem document."""
    raw = msgspec.json.encode(found.body, enc_hook=str)
    return Response(raw, found.status, media_type=MEDIA_TYPE, headers={**found.headers, **(headers or {})})


def told(error: Exception) -> Problem:
    """Return the problem of an error; one that nobody foresaw is logged, a caller who left is not."""
    found = problem(error)
    if found.slug == "internal" and not isinstance(error, ClientDisconnect):
        _LOG.error("a request failed", exc_info=error)
    return found


def refused(parts: Parts, service: str, incoming: Incoming | None, who: Who | None, error: Exception) -> Response:
    """Return the problem of a command that was not accepted, acknowledged where the request was read whole."""
    found = told(error)
    parts.meter.count("commons_http_refusals", 1, service, found.slug)
    if incoming is None or incoming.body is None:
        return problem_answer(found)
    ack = Ack(
        service,
        time_text(parts.now_ms() * 1_000),
        _request_hash(incoming),
        refusal=found.slug,
        actor=who.actor if who else None,
    )
    return problem_answer(found, {HEADER: parts.acknowledger.sign(ack)})


def accepted(parts: Parts, service: str, incoming: Incoming, who: Who, outcome: Accepted) -> Response:
    """Return the answer to an accepted command: its positions and what the decision answered."""
    answer: dict[str, Any] = msgspec.json.decode(outcome.answer)
    body = answer | {"position": str(outcome.last), "first": str(outcome.first)}
    headers = _headers(parts, service, incoming, who, outcome)
    if outcome.hit:
        headers[HIT] = "true"
    return json_answer(body, headers)


def accepted_bulk(
    parts: Parts, service: str, incoming: Incoming, who: Who, last: Accepted | None, answers: list[Mapping[str, Any]]
) -> Response:
    """Return the answers of a bulk, item by item; `last` is the outcome with the highest position, if any."""
    body = msgspec.json.encode(answers, enc_hook=str)
    outcome = last or Accepted(0, 0, b"{}", hit=False, time_us=parts.now_ms() * 1_000, record_hash=b"")
    return json_answer(body, _headers(parts, service, incoming, who, outcome, hashlib.sha256(body).hexdigest()))


def _headers(
    parts: Parts, service: str, incoming: Incoming, who: Who, outcome: Accepted, answer_sha256: str | None = None
) -> dict[str, str]:
    ack = Ack(
        service,
        time_text(outcome.time_us),
        _request_hash(incoming),
        position=str(outcome.last),
        record_hash=outcome.record_hash.hex(),
        actor=who.actor,
        answer_sha256=answer_sha256,
    )
    return {POSITION: f"{service}={outcome.last}", HEADER: parts.acknowledger.sign(ack)}


def _request_hash(incoming: Incoming) -> str:
    return request_hash(incoming.method, incoming.target_uri, incoming.body or b"")
