"""Query routes as values: a view lists them, the HTTP edge serves them. No rule and no web library stands here.

Projections import no service, so the permission is a name here; the edge refuses to start with one it does not know.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic


class Params(pydantic.BaseModel):
    """The parameters of a query, from its path and query string: unknown ones refused, immutable.

    Texts of the URL become the fields' types (pydantic's lax mode): `limit: int` takes `?limit=20`.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class NothingThere(Exception):
    """What was asked for does not exist at the positions the view reflects; the edge answers 404."""


class NotCaughtUp(Exception):
    """The view does not reflect the positions asked for yet; the edge answers 503 with Retry-After."""

    def __init__(self, detail: str, retry_after_seconds: int = 1) -> None:
        """Keep a sentence for people and when to ask again (whole seconds)."""
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class QueryContext:
    """Who asks (None: nobody signed) and which positions the answer must reflect at least, by service name."""

    actor: str | None
    at_least: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query came to: a JSON-able body, and the positions it reflects by service (`Commons-Position`)."""

    body: Any
    positions: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class QueryRoute:
    """GET `path`, e.g. `/v1/views/balances/{account}`; names in braces are fields of `params` too.

    `handle(params, context)` raises NothingThere (404) or NotCaughtUp (503); waiting for `context.at_least` is its own.
    `path` may take a field with slashes in it by `{account:path}`. Field names in the URL are the model's names.
    `api_key` tells whether an API key may ask: not for what is personal.
    """

    name: str
    path: str
    permission: str
    params: type[Params]
    handle: Callable[[Any, QueryContext], Awaitable[Answer]]
    summary: str = ""
    api_key: bool = True
