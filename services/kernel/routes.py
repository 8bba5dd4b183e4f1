"""Routes as values: a service's `api.py` lists them, the edge serves them. No rule stands in a route."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
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
    """Who called and what they signed. `authorization` is the caller's own signature over the command, where asked.

    It is a compact JWS or signed EIP-712 typed data as text; `signer` is the key's id or the wallet's address, and
    `signed_payload` the bytes of what was signed. `kid` is what signed the request, or the session's wallet.
    """

    actor: str
    kid: str | None
    directory: Directory
    authorization: str | None = None
    signed_payload: bytes | None = None
    signer: str | None = None


@dataclass(frozen=True, slots=True)
class CommandRoute:
    """POST `path`: one command. With `own_signature` the caller signs the command itself, and that goes into the fact.

    The body is then `{"jws": "..."}`, a compact JWS by the caller's key over `{"command": <name>, "genesis": <hex>,
    "nonce": <text>, "body": {...}}`, or `{"eip712": {...}}`, typed data signed by the caller's wallet (see
    `typed_commands`). What was signed is validated like a plain body. `api_key` marks what moves nothing. `input_key`
    gives the key of the inputs' hash where it is a subject's own.
    """

    name: str
    path: str
    permission: Permission
    body: type[Body]
    command: Callable[[Any, Caller], Command | Awaitable[Command]]
    own_signature: bool = False
    api_key: bool = False
    summary: str = ""
    input_key: Callable[[Caller], Awaitable[bytes]] | None = None


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


@dataclass(frozen=True, slots=True)
class WorkingRoute:
    """POST `path`: something that becomes no fact, such as a heartbeat. `answer` does it and returns the answer."""

    name: str
    path: str
    permission: Permission
    body: type[Body]
    answer: Callable[[Any, Caller], Awaitable[Mapping[str, Any]]]
    summary: str = ""


Route = CommandRoute | BulkRoute | WorkingRoute
