"""Builds the HTTP application from routes. Default deny: a route whose permission nobody lists does not start."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, cast

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from infra.http.answers import json_answer, problem_answer
from infra.http.bulk import bulk_endpoint
from infra.http.commands import Endpoint, command_endpoint, working_endpoint
from infra.http.health import LIVE_PATH, READY_PATH, health_endpoints
from infra.http.openapi import command_operation, components, query_operation, session_operation
from infra.http.parts import Parts
from infra.http.queries import query_endpoint
from infra.http.sessions import session_endpoints
from projections.routes import QueryRoute
from services.kernel.problems import plain_problem, problem
from services.kernel.roles import ROLES, Permission
from services.kernel.routes import BulkRoute, Route, WorkingRoute

INDEX_PATH: Final = "/"
OPENAPI_PATH: Final = "/v1/openapi.json"
KEYS_PATH: Final = "/v1/keys"

_LOG: Final = logging.getLogger(__name__)

_NO_TELEMETRY: Final = TelemetryConfig(tracing=False, metrics=False, logs=False, auto_configure=False)
"""The framework's own would tell exceptions' texts and bodies to whoever its environment variables name."""

_SLUGS: Final = {HTTPStatus.NOT_FOUND: "not-found", HTTPStatus.METHOD_NOT_ALLOWED: "method-not-allowed"}


def build_app(
    parts: Parts,
    commands: Mapping[str, Sequence[Route]],
    queries: Iterable[QueryRoute] = (),
    *,
    keys: Callable[[], Mapping[str, Any]] = dict,
    title: str = "Compute Commons",
    version: str = "1",
) -> FastAPI:
    """Return the application: `commands` by service name, `queries`, health and the OpenAPI document.

    `keys()` is the JWK set (RFC 7517) that acknowledgements are verified with, retired keys included.

    Asserts that every permission is listed in `roles.ROLES`, that no path stands twice and that each service with
    routes has an appender.
    """
    queries = tuple(queries)
    app = FastAPI(
        title=title, version=version, openapi_url=None, docs_url=None, redoc_url=None, telemetry=_NO_TELEMETRY
    )
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _unforeseen)
    for service, routes in commands.items():
        assert service in parts.appenders, service
        for route in routes:
            endpoint = _served(parts, service, route)
            _add(app, "POST", route.path, route.permission, endpoint, command_operation(route, service))
    for query in queries:
        permission = cast("Permission", query.permission)
        endpoint = query_endpoint(parts, query, permission)
        _add(app, "GET", query.path, permission, endpoint, query_operation(query))
    signing_in = session_endpoints(parts)
    for name, path, body, endpoint in signing_in:
        _add(app, "POST", path, "public", endpoint, session_operation(name, body))
    bodies = [route.body for routes in commands.values() for route in routes if not isinstance(route, BulkRoute)]
    _add(app, "GET", KEYS_PATH, "public", _keys_endpoint(keys), None)
    _add_own(app, parts, queries, components([*bodies, *(body for _, _, body, _ in signing_in)], queries))
    return app


def _served(parts: Parts, service: str, route: Route) -> Endpoint:
    if isinstance(route, BulkRoute):
        return bulk_endpoint(parts, service, route)
    if isinstance(route, WorkingRoute):
        return working_endpoint(parts, service, route)
    return command_endpoint(parts, service, route)


def permissions(app: FastAPI) -> Mapping[tuple[str, str], str | None]:
    """Return the permission of every (method, path) the application answers; None where none was named."""
    return {
        (method, getattr(route, "path", str(route))): getattr(getattr(route, "endpoint", None), "permission", None)
        for route in app.routes
        for method in getattr(route, "methods", None) or {"*"}
    }


def _add(
    app: FastAPI, method: str, path: str, permission: Permission, endpoint: Endpoint, operation: dict[str, Any] | None
) -> None:
    assert permission in ROLES, f"{method} {path} needs a permission that roles.py lists, not {permission!r}"
    assert (method, path) not in permissions(app), f"{method} {path} stands twice"
    endpoint.permission = permission  # type: ignore[attr-defined]
    app.add_api_route(
        path,
        endpoint,
        methods=[method],
        response_model=None,
        operation_id=operation["operationId"] if operation else None,
        openapi_extra=operation,
        include_in_schema=operation is not None,
    )


def _keys_endpoint(keys: Callable[[], Mapping[str, Any]]) -> Endpoint:
    async def published(_request: Request) -> Response:
        return json_answer(keys())

    return published


def _add_own(app: FastAPI, parts: Parts, queries: Sequence[QueryRoute], shared: dict[str, Any]) -> None:
    generate: Callable[[], dict[str, Any]] = app.openapi

    def document() -> dict[str, Any]:
        return generate() | {"components": shared, "servers": [{"url": parts.settings.public_url}]}

    async def openapi(_request: Request) -> Response:
        return json_answer(document())

    views = sorted(query.path for query in queries if "{" not in query.path)
    start = {"name": app.title, "openapi": OPENAPI_PATH, "health": [LIVE_PATH, READY_PATH], "views": views}

    async def index(_request: Request) -> Response:
        """Tell who looks in with a browser where to go on."""
        return json_answer(start)

    own = [(INDEX_PATH, index), (OPENAPI_PATH, openapi), *health_endpoints(parts.ready, parts.warnings, parts.metrics)]
    for path, endpoint in own:
        _add(app, "GET", path, "public", endpoint, None)
    app.openapi = document  # type: ignore[method-assign]


async def _http_error(_request: Request, error: Exception) -> Response:
    """Answer what the router itself refuses (404, 405) in the same form as everything else."""
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    found = plain_problem(status, _SLUGS.get(status, "http-error"), status.phrase, str(error.detail))
    return problem_answer(found, error.headers)


async def _unforeseen(_request: Request, error: Exception) -> Response:
    _LOG.error("a request failed outside its route", exc_info=error)
    return problem_answer(problem(error))
