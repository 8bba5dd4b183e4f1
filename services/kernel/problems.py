"""RFC 9457: the one table from error class to HTTP status, and the problem document of any error.

A class stands for its subclasses; the nearest ancestor counts. A refusal is 409 unless its class says otherwise here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from events.store import StoreFull, StoreUnavailable
from services.kernel.errors import (
    AuthenticationFailed,
    CommonsError,
    DiskFull,
    InvalidField,
    MalformedRequest,
    NotFound,
    PermissionDenied,
    RecordTooLarge,
    Refusal,
    TooLarge,
    TooManyRequests,
    TooSlow,
    Unavailable,
    UnsupportedMedia,
)

MEDIA_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:commons:problem:"

STATUS: Final[Mapping[type[CommonsError], int]] = {
    Refusal: HTTPStatus.CONFLICT,
    InvalidField: HTTPStatus.UNPROCESSABLE_ENTITY,
    RecordTooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    MalformedRequest: HTTPStatus.BAD_REQUEST,
    AuthenticationFailed: HTTPStatus.UNAUTHORIZED,
    PermissionDenied: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    TooSlow: HTTPStatus.REQUEST_TIMEOUT,
    UnsupportedMedia: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    TooManyRequests: HTTPStatus.TOO_MANY_REQUESTS,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    DiskFull: HTTPStatus.INSUFFICIENT_STORAGE,
}

_RESERVED: Final = frozenset({"type", "title", "status", "detail", "instance"})
_WAITING: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
_WAIT_SECONDS: Final = 2
"""What `Retry-After` says when the error does not know better."""


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer in RFC 9457's form."""

    status: int
    slug: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]


def status_of(kind: type[CommonsError]) -> int:
    """Return the HTTP status of an error class; 500 for one that nobody placed in the table."""
    for ancestor in kind.__mro__:
        if ancestor in STATUS:
            return int(STATUS[ancestor])
    return int(HTTPStatus.INTERNAL_SERVER_ERROR)


def problem(error: Exception) -> Problem:
    """Return the problem document of any error; of an unexpected one nothing but that it happened."""
    told = _told(error)
    if told is None:
        return plain_problem(HTTPStatus.INTERNAL_SERVER_ERROR, "internal", "Internal error", "it has been logged")
    status = status_of(type(told))
    extra = {name: value for name, value in told.fields.items() if name not in _RESERVED}
    found = plain_problem(status, told.slug, told.title, told.detail, extra)
    if status == HTTPStatus.UNAUTHORIZED:
        return Problem(status, told.slug, found.body, {"WWW-Authenticate": 'Signature realm="commons", Bearer'})
    if status in _WAITING:
        seconds = told.fields.get("retry_after_seconds", _WAIT_SECONDS)
        return Problem(status, told.slug, found.body, {"Retry-After": str(seconds)})
    return found


def plain_problem(status: int, slug: str, title: str, detail: str, extra: Mapping[str, Any] | None = None) -> Problem:
    """Return a problem document made from its parts."""
    body = {"type": TYPE_PREFIX + slug, "title": title, "status": int(status), "detail": detail, **(extra or {})}
    return Problem(int(status), slug, body, {})


def _told(error: Exception) -> CommonsError | None:
    """Return what a caller may be told: the error itself, or the store's error in the edge's words."""
    if isinstance(error, CommonsError):
        return error
    if isinstance(error, StoreUnavailable):
        return Unavailable("the database is away")
    if isinstance(error, StoreFull):
        return DiskFull("the disk of the database is full")
    return None
