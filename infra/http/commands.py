"""Serves command routes: admit, read strictly, make the command, submit it, acknowledge the answer."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import msgspec
import pydantic
from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from events.values import ValueRefused, identifier
from infra.http.answers import accepted, json_answer, refused
from infra.http.authentication import Who
from infra.http.authorizations import Authorization, check_command_id, read_authorization
from infra.http.incoming import Incoming, read_body, read_head
from infra.http.parts import Parts
from services.kernel.decider import Command
from services.kernel.errors import InvalidField, Unavailable
from services.kernel.group import Request
from services.kernel.roles import ANYONE
from services.kernel.routes import Body, Caller, CommandRoute, WorkingRoute
from services.kernel.strict_json import parse_json
from services.kernel.unit import Accepted

Endpoint = Callable[[HttpRequest], Awaitable[Response]]


def command_endpoint(parts: Parts, service: str, route: CommandRoute) -> Endpoint:
    """Return what serves one command route."""

    async def endpoint(request: HttpRequest) -> Response:
        incoming: Incoming | None = None
        who: Who | None = None
        try:
            incoming = read_head(request, parts.settings.public_url)
            body = await read_body(request, incoming, parts.settings.command_bytes, parts.settings.body_seconds)
            incoming = replace(incoming, body=body)
            who = await parts.admit(incoming, route.permission, "commands", api_key=route.api_key)
            outcome = await submit(parts, service, await _read(route, who, incoming, body))
            return accepted(parts, service, incoming, who, outcome)
        except Exception as error:  # noqa: BLE001 - every error has an answer, and the answer is signed
            return refused(parts, service, incoming, who, error)

    return endpoint


def working_endpoint(parts: Parts, service: str, route: WorkingRoute) -> Endpoint:
    """Return what serves a route that becomes no fact: admitted and read like a command, answered at once."""

    async def endpoint(request: HttpRequest) -> Response:
        incoming: Incoming | None = None
        who: Who | None = None
        try:
            incoming = read_head(request, parts.settings.public_url)
            body = await read_body(request, incoming, parts.settings.command_bytes, parts.settings.body_seconds)
            incoming = replace(incoming, body=body)
            who = await parts.admit(incoming, route.permission, "commands", api_key=False)
            parse_json(body)
            return json_answer(await route.answer(read_model(route.body, body), caller_of(who)))
        except Exception as error:  # noqa: BLE001 - every error has an answer, and the answer is signed
            return refused(parts, service, incoming, who, error)

    return endpoint


async def submit(parts: Parts, service: str, request: Request) -> Accepted:
    """Return the durable outcome; raises what the decision refused with, or Unavailable after the longest wait."""
    try:
        async with asyncio.timeout(parts.settings.submit_seconds):
            (outcome,) = await parts.appenders[service].submit(request)
    except TimeoutError as error:
        raise Unavailable("no answer in time: ask again with the same command id") from error
    return outcome


async def _read(route: CommandRoute, who: Who, incoming: Incoming, raw: bytes) -> Request:
    parsed = parse_json(raw)
    signed: Authorization | None = None
    if route.own_signature:
        signed = read_authorization(parsed, who, route)
        raw = signed.body
    body = read_model(route.body, raw)
    caller = caller_of(who, signed)
    try:
        made = route.command(body, caller)
        command = made if isinstance(made, Command) else await made
    except ValueRefused as error:
        raise InvalidField(str(error)) from error
    identity = command_id(who, incoming, signed)
    input_key = await route.input_key(caller) if route.input_key else None
    # The key under the command's own signature is the one that must still live under the lock.
    kid = caller.signer or caller.kid
    return Request(command, caller.actor, identity, canonical(route.path, body), kid=kid, input_key=input_key)


def caller_of(who: Who, signed: Authorization | None = None) -> Caller:
    """Return what a route's function may know of who asks."""
    if signed is None:
        return Caller(who.actor or ANYONE, who.kid, who.directory)
    return Caller(who.actor or ANYONE, who.kid, who.directory, signed.text, signed.payload, signed.signer)


def command_id(who: Who, incoming: Incoming, signed: Authorization | None) -> str:
    """Return the command's id: the authorization's nonce, else the Idempotency-Key, else one of this request alone.

    Raises InvalidField when the header names another command than the caller signed.
    """
    stated = incoming.headers.get("idempotency-key")
    if stated is not None:
        check_command_id(stated)
    if signed is not None:
        if stated not in {None, signed.nonce}:
            raise InvalidField("Idempotency-Key must be the nonce of the signed command, or be left out")
        return signed.nonce
    if stated is not None:
        return stated
    if who.signed is not None:
        return identifier("commons.request", who.signed.kid, who.signed.nonce)
    return secrets.token_hex(16)


def canonical(path: str, body: Body) -> bytes:
    """Return what was asked, in bytes that do not depend on spelling: path and set fields, keys sorted."""
    fields = body.model_dump(mode="json", exclude_unset=True)
    return path.encode() + b"\n" + msgspec.json.encode(fields, order="sorted")


def read_model(model: type[Body], raw: bytes) -> Any:
    """Return the validated body; raises InvalidField with a pointer per fault."""
    try:
        return model.model_validate_json(raw)
    except pydantic.ValidationError as error:
        raise invalid_fields(error) from error


def invalid_fields(error: pydantic.ValidationError) -> InvalidField:
    """Return pydantic's complaints as one refusal that does not repeat the caller's input."""
    faults = [
        {"pointer": "".join(f"/{part}" for part in fault["loc"]), "detail": fault["msg"]}
        for fault in error.errors(include_url=False, include_context=False, include_input=False)[:20]
    ]
    first = faults[0]
    return InvalidField(f"{first['pointer'] or '/'}: {first['detail']}", errors=faults)
