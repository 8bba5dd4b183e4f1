"""Routes as values: a service's `api.py` lists them, the edge serves them. No rule stands in a route."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pydantic

from services.kernel.decider import Command
from services.kernel.directory import Directory
from services.kernel.roles import Permission


class Body(pydantic.BaseModel):
    """A request body: strict types, unknown fields refused, immutable. Amounts are strings."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who called and what they signed. `authorization` is the caller's own JWS over the command, where a route asks.

    `signed_payload` are the exact bytes that JWS signs.
    """

    actor: str
    kid: str | None
    directory: Directory
    authorization: str | None = None
    signed_payload: bytes | None = None


@dataclass(frozen=True, slots=True)
class CommandRoute:
    """POST `path`: one command. With `own_signature` the body is `{"jws": "..."}`, a compact JWS by the caller's key.

    That JWS's payload is `{"command": <name>, "genesis": <hex>, "nonce": <text>, "body": {...}}`; `body` is then
    validated like a plain one, and the JWS goes into the fact. `api_key` marks what moves nothing.
    """

    name: str
    path: str
    permission: Permission
    body: type[Body]
    command: Callable[[Any, Caller], Command]
    own_signature: bool = False
    api_key: bool = False
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One element of a bulk request, ready to be decided on its own under its own command id."""

    command: Command
    command_id: str
    inputs: bytes


@dataclass(frozen=True, slots=True)
class BulkRoute:
    """POST `path`: a JSON array of up to `limit` strings, each decided on its own; one answer per element.

    `read` checks one element (signature and form) and raises a CommonsError that becomes that element's answer.
    `answer` makes the answer from the decision's JSON and whether it is a repetition.
    """

    name: str
    path: str
    permission: Permission
    limit: int
    element_bytes: int
    read: Callable[[str, Caller], Item]
    answer: Callable[[Mapping[str, Any], bool], Mapping[str, Any]]
    summary: str = ""


Route = CommandRoute | BulkRoute
