"""Serves query routes: who asks, strict parameters, which positions the answer must reflect and does reflect."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import pydantic
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from events.values import ValueRefused
from infra.http.answers import POSITION, json_answer, problem_answer, told
from infra.http.commands import Endpoint, invalid_fields
from infra.http.incoming import read_head
from infra.http.parts import Parts
from projections.routes import NotCaughtUp, NothingThere, QueryContext, QueryRoute
from services.kernel.errors import InvalidField, NotFound, Unavailable
from services.kernel.roles import Permission
from services.kernel.strict_json import MAX_INTEGER

AT_LEAST: Final = "commons-at-least"

_PART: Final = re.compile(r"([a-z][a-z0-9_]{0,47})=(0|[1-9][0-9]{0,17})\Z")
_MOST_PARTS: Final = 16
_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def query_endpoint(parts: Parts, route: QueryRoute, permission: Permission) -> Endpoint:
    """Return what serves one query route."""

    async def endpoint(request: HttpRequest) -> Response:
        try:
            incoming = read_head(request, parts.settings.public_url)
            who = await parts.admit(incoming, permission, "queries", api_key=route.api_key)
            context = QueryContext(who.actor, read_at_least(incoming.headers.get(AT_LEAST, "")))
            answer = await route.handle(_params(route, request), context)
            reflected = ", ".join(f"{service}={position}" for service, position in sorted(answer.positions.items()))
            return json_answer(answer.body, {POSITION: reflected} if reflected else {})
        except Exception as error:  # noqa: BLE001 - every error has an answer
            return problem_answer(told(_translated(error)))

    return endpoint


def read_at_least(header: str) -> Mapping[str, int]:
    """Return `Commons-At-Least: treasury=1234, metering=5` as positions by service; raises InvalidField."""
    found: dict[str, int] = {}
    for part in filter(None, (part.strip() for part in header.split(","))):
        match = _PART.match(part)
        if match is None or match[1] in found or len(found) == _MOST_PARTS:
            raise InvalidField("Commons-At-Least is a list like 'treasury=1234, metering=5'")
        found[match[1]] = int(match[2])
    return found


def _params(route: QueryRoute, request: HttpRequest) -> pydantic.BaseModel:
    texts: dict[str, str] = dict(request.path_params)
    for name, text in request.query_params.multi_items():
        if name in texts:
            raise InvalidField(f"/{name[:60]}: stands twice")
        texts[name] = text
    for name, text in texts.items():
        if _FORBIDDEN.search(text) or _FORBIDDEN.search(name):
            raise InvalidField(f"/{name[:60]!r}: control characters are refused")
    try:
        params = route.params.model_validate(texts)
    except pydantic.ValidationError as error:
        raise invalid_fields(error) from error
    for name in texts:
        value = getattr(params, name, None)
        if isinstance(value, int) and not -MAX_INTEGER <= value <= MAX_INTEGER:
            raise InvalidField(f"/{name}: the number exceeds 2^53 - 1")
    return params


def _translated(error: Exception) -> Exception:
    """Return the kernel's word for what a projection said in its own."""
    if isinstance(error, NothingThere):
        return NotFound(str(error) or "no such entry")
    if isinstance(error, NotCaughtUp):
        return Unavailable(str(error), retry_after_seconds=error.retry_after_seconds)
    if isinstance(error, ValueRefused):
        return InvalidField(str(error))
    return error
