"""Reads a request whole and strictly: one line per header that matters, the route's media type, a bounded body."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request

from services.kernel.errors import MalformedRequest, TooLarge, TooSlow, UnsupportedMedia

JSON: Final = "application/json"

_SINGLE: Final = frozenset(
    {
        "authorization",
        "commons-at-least",
        "content-digest",
        "content-encoding",
        "content-length",
        "content-type",
        "idempotency-key",
        "signature",
        "signature-input",
    }
)
"""Headers that may stand once; two of them could be read differently by two readers."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request, read. `target_uri` is the public URL with the raw path and query; `body` is None for a GET."""

    method: str
    target_uri: str
    headers: dict[str, str] = field(repr=False)  # an Authorization header is a secret
    address: str
    body: bytes | None


def read_head(request: Request, public_url: str) -> Incoming:
    """Return everything but the body; raises MalformedRequest for a header that stands twice."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers.raw:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name in headers and name in _SINGLE:
            raise MalformedRequest(f"the {name} header stands twice")
        headers[name] = value
    path = request.scope.get("raw_path") or request.scope["path"].encode()
    query = request.scope["query_string"]
    target = public_url + path.decode("latin-1") + ("?" + query.decode("latin-1") if query else "")
    address = request.client.host if request.client else "unknown"
    return Incoming(request.method, target, headers, address, None)


async def read_body(request: Request, head: Incoming, limit: int, seconds: float) -> bytes:
    """Return the JSON body's bytes, which must come within `seconds`.

    Raises UnsupportedMedia, TooLarge as soon as it is known, MalformedRequest, TooSlow.
    """
    if head.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMedia("content encodings are not taken")
    kind = head.headers.get("content-type", "").replace(" ", "").lower()
    if kind not in {JSON, f"{JSON};charset=utf-8"}:
        raise UnsupportedMedia(f"the content type must be {JSON}")
    stated = head.headers.get("content-length", "0")
    if not stated.isdecimal():
        raise MalformedRequest("the content-length header is no number")
    if len(stated) > len(str(limit)) or int(stated) > limit:
        raise TooLarge(f"the body has more than {limit} bytes", limit=limit)
    try:
        async with asyncio.timeout(seconds):
            return await _collect(request, limit)
    except TimeoutError as error:
        raise TooSlow(f"the body did not come within {seconds:g} s") from error


async def _collect(request: Request, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body has more than {limit} bytes", limit=limit)
        chunks.append(chunk)
    return b"".join(chunks)
