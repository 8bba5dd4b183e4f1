"""Serves bulk routes: an array of texts, each decided on its own; all of them share the appender's group commits."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, cast

import msgspec
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from infra.http.answers import accepted_bulk, refused
from infra.http.authentication import Who
from infra.http.commands import Endpoint, caller_of, submit
from infra.http.incoming import Incoming, read_body, read_head
from infra.http.parts import Parts
from services.kernel.errors import CommonsError, DiskFull, InvalidField, TooLarge, Unavailable
from services.kernel.group import Request
from services.kernel.routes import BulkRoute, Caller, Item
from services.kernel.strict_json import parse_json
from services.kernel.unit import Accepted

_WHOLE: Final = (Unavailable, DiskFull)
"""What concerns the store concerns every element: the whole request is asked again, which is always safe."""

_BREATHE: Final = 8
"""Elements read between two turns of the event loop (a signature costs about 65 microseconds)."""


def bulk_endpoint(parts: Parts, service: str, route: BulkRoute) -> Endpoint:
    """Return what serves one bulk route."""

    async def endpoint(request: HttpRequest) -> Response:
        incoming: Incoming | None = None
        who: Who | None = None
        try:
            incoming = read_head(request, parts.settings.public_url)
            body = await read_body(request, incoming, parts.settings.bulk_bytes, parts.settings.body_seconds)
            incoming = replace(incoming, body=body)
            who = await parts.admit(incoming, route.permission, "commands", api_key=False)
            items = await _read(route, _elements(route, body), caller_of(who))
            outcomes = await _submit(parts, service, who, items)
            done = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
            last = max(done, key=lambda outcome: outcome.last, default=None)
            answers = [_answer(route, outcome) for outcome in outcomes]
            return accepted_bulk(parts, service, incoming, who, last, answers)
        except Exception as error:  # noqa: BLE001 - every error has an answer, and the answer is signed
            return refused(parts, service, incoming, who, error)

    return endpoint


def _elements(route: BulkRoute, raw: bytes) -> list[str]:
    parsed = parse_json(raw)
    if not isinstance(parsed, list) or not all(isinstance(element, str) for element in parsed):
        raise InvalidField("the body must be an array of texts")
    if not parsed:
        raise InvalidField("the array is empty")
    if len(parsed) > route.limit:
        raise TooLarge(f"{len(parsed)} elements; at most {route.limit} go in one request", limit=route.limit)
    return parsed


async def _read(route: BulkRoute, elements: list[str], caller: Caller) -> list[Item | CommonsError]:
    items: list[Item | CommonsError] = []
    for index, element in enumerate(elements):
        try:
            if len(element.encode()) > route.element_bytes:
                raise TooLarge(f"more than {route.element_bytes} bytes", limit=route.element_bytes)
            items.append(route.read(element, caller))
        except CommonsError as error:
            items.append(error)
        if index % _BREATHE == _BREATHE - 1:
            await asyncio.sleep(0)
    return items


async def _submit(
    parts: Parts, service: str, who: Who, items: list[Item | CommonsError]
) -> list[Accepted | CommonsError]:
    actor, kid = who.actor or "", who.kid

    async def one(item: Item | CommonsError) -> Accepted | CommonsError:
        if isinstance(item, CommonsError):
            return item
        try:
            return await submit(parts, service, Request(item.command, actor, item.command_id, item.inputs, kid=kid))
        except _WHOLE:
            raise
        except CommonsError as error:
            return error

    outcomes = await asyncio.gather(*(one(item) for item in items), return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException) and (
            isinstance(outcome, _WHOLE) or not isinstance(outcome, CommonsError)
        ):
            raise outcome
    return cast("list[Accepted | CommonsError]", outcomes)


def _answer(route: BulkRoute, outcome: Accepted | CommonsError) -> Mapping[str, Any]:
    if isinstance(outcome, CommonsError):
        return {**outcome.fields, "status": "rejected", "code": outcome.slug, "detail": outcome.detail}
    answer = route.answer(msgspec.json.decode(outcome.answer), outcome.hit)
    return {"position": str(outcome.last), **answer}
