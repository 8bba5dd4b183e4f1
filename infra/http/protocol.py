"""uvicorn's HTTP protocol with bounds on what comes before a body; the parser itself has none.

Without them one connection could fill the memory with a header that never ends, or stay open for ever with half of one.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES: Final = 65_536
"""Bytes that may come without bringing a body or the end of a head: request line, headers, trailers."""

HEAD_SECONDS: Final = 30.0
"""How long a request's line and headers may take, counted from the connection or from their first byte."""


class BoundedProtocol(HttpToolsProtocol):
    """Refuses endless heads with 400 and closes connections whose head does not come."""

    _bare_bytes = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._head_came()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, then count what brought nothing."""
        if self.transport.is_closing():
            return
        self._bare_bytes += len(data)
        super().data_received(data)
        if self._bare_bytes > HEAD_BYTES and not self.transport.is_closing():
            self.logger.warning("a request with an endless head was refused")
            self.send_400_response("The request line and headers are too long.")

    def on_message_begin(self) -> None:
        """Begin a request's head."""
        super().on_message_begin()
        if self._deadline is None:
            self._wait_for_head()

    def on_headers_complete(self) -> None:
        """End a request's head."""
        self._head_came()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of body; its size is the application's to bound."""
        self._bare_bytes = 0
        super().on_body(body)

    def _wait_for_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _head_came(self) -> None:
        self._bare_bytes = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
