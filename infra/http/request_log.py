"""One line per request at the level info: method, path, status, milliseconds, and by what means the caller came.

The query and the headers stay out: both may hold what is nobody's business.
"""

from __future__ import annotations

import logging
import time
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_LOG: Final = logging.getLogger(__name__)


class RequestLog:
    """ASGI middleware that logs what was answered."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or not _LOG.isEnabledFor(logging.INFO):
            await self._app(scope, receive, send)
            return
        begun, status = time.monotonic_ns(), 500

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, told)
        finally:
            ms = (time.monotonic_ns() - begun) // 1_000_000
            fields = {
                "method": scope["method"],
                "path": scope["path"],
                "status": status,
                "ms": ms,
                "actor": _means(scope),
            }
            _LOG.info("%(method)s %(path)s %(status)s %(ms)s ms %(actor)s", fields, extra={"fields": fields})


def _means(scope: Scope) -> str:
    """Return what the caller shows, believed or not: a signature, a session or key, nothing."""
    headers: dict[bytes, Any] = dict(scope["headers"])
    if b"signature-input" in headers:
        return "signature"
    return "bearer" if b"authorization" in headers else "nobody"
