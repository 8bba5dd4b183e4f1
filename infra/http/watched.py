"""Measures requests: one span and one count each, by the route's template, never by what a caller wrote in its path."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from starlette.routing import BaseRoute, compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from events.telemetry import TRACEPARENT, Telemetry, read_traceparent

OTHER: Final = "other"
"""The route of what no route answers, and the method of what is none of HTTP's."""

_METHODS: Final = frozenset({"GET", "POST", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Watched:
    """ASGI middleware round the whole application. A caller's own trace (W3C `traceparent`) goes on in ours."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry, routes: Iterable[BaseRoute]) -> None:
        """Wrap an application that answers `routes`."""
        self._app = app
        self._telemetry = telemetry
        self._route_of = templates(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        route = self._route_of(scope["path"])
        method = scope["method"] if scope["method"] in _METHODS else OTHER
        tracer, meter = self._telemetry.tracer, self._telemetry.meter
        stated = _stated(scope) if tracer.active else ""
        span = tracer.span(f"{method} {route}", [stated] if stated else None, **{"http.route": route})
        try:
            with meter.time("commons_http_seconds", route), span:
                await self._app(scope, receive, told)
        finally:
            meter.count("commons_http_requests", 1, route, method, str(status))


def templates(routes: Iterable[BaseRoute]) -> Callable[[str], str]:
    """Return a function from a path to the template of the route that answers it, `other` where none does."""
    paths = list(dict.fromkeys(str(getattr(route, "path", "")) for route in routes))
    plain = frozenset(path for path in paths if "{" not in path)
    patterns = [(compile_path(path)[0], path) for path in paths if "{" in path]

    def template(path: str) -> str:
        if path in plain:
            return path
        return next((found for pattern, found in patterns if pattern.match(path)), OTHER)

    return template


def _stated(scope: Scope) -> str:
    """Return the traceparent a request came with."""
    name = TRACEPARENT.encode()
    found = next((value for header, value in scope["headers"] if header == name), b"")
    return read_traceparent(found.decode("latin-1"))
