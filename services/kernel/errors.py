"""The error tree. HTTP status lives in one table at the edge, never here.

CommonsError
|-- Refusal                  a rule said no; nothing was recorded; the caller can understand why
|   |-- (each service's refusals, named for the rule, with typed fields)
|   |-- OtherInputs          the command id is known with other inputs
|   |-- InvalidField         a field of a command is not what it must be
|   |-- RecordTooLarge       the fact would not fit in a record
|   |-- SubjectIsErased      the person's key is destroyed: nothing about them is sealed or opened any more
|-- AuthenticationFailed     who asks could not be established
|-- PermissionDenied         who asks may not do this
|-- MalformedRequest         the bytes are not the JSON they must be
|-- TooLarge                 a request or a batch exceeds a limit
|-- TooSlow                a request did not arrive in time
|-- UnsupportedMedia         the content type is not the route's
|-- TooManyRequests          a rate limit of the actor
|-- Unavailable              wait and try again: the store is away or a follower is behind
|-- DiskFull                 the store's disk is full
|-- NotFound                 no such thing
"""

from __future__ import annotations

from typing import Any


class CommonsError(Exception):
    """Root of everything a caller may be told. `slug` is the stable last part of the RFC 9457 `type`."""

    slug = "error"
    title = "Error"

    def __init__(self, detail: str, **fields: Any) -> None:
        """Keep a sentence for people and typed fields for machines (JSON values)."""
        super().__init__(detail)
        self.detail = detail
        self.fields = fields


class Refusal(CommonsError):
    """A rule said no. Subclasses are named for the rule."""

    slug = "refused"
    title = "Refused by a rule"


class OtherInputs(Refusal):
    """The same command id came with other inputs."""

    slug = "other-inputs"
    title = "Command id already used with other inputs"


class InvalidField(Refusal):
    """A field of a command is not what it must be."""

    slug = "invalid-field"
    title = "Invalid field"


class RecordTooLarge(Refusal):
    """The fact would exceed 65,535 bytes."""

    slug = "record-too-large"
    title = "Fact too large for a record"


class SubjectIsErased(Refusal):
    """The person's key is destroyed; what was sealed with it opens never again."""

    slug = "subject-erased"
    title = "Subject erased"


class AuthenticationFailed(CommonsError):
    """Who asks could not be established."""

    slug = "authentication-failed"
    title = "Authentication failed"


class PermissionDenied(CommonsError):
    """Who asks may not do this."""

    slug = "permission-denied"
    title = "Permission denied"


class MalformedRequest(CommonsError):
    """The bytes are not the JSON they must be."""

    slug = "malformed-request"
    title = "Malformed request"


class TooLarge(CommonsError):
    """A request or a part of it exceeds a limit."""

    slug = "too-large"
    title = "Too large"


class TooSlow(CommonsError):
    """A request did not arrive in time."""

    slug = "too-slow"
    title = "Request too slow"


class UnsupportedMedia(CommonsError):
    """The content type is not the route's."""

    slug = "unsupported-media-type"
    title = "Unsupported media type"


class TooManyRequests(CommonsError):
    """A rate limit of the actor was reached; `retry_after_seconds` stands in the fields."""

    slug = "too-many-requests"
    title = "Too many requests"


class Unavailable(CommonsError):
    """The answer has to wait; `retry_after_seconds` stands in the fields."""

    slug = "unavailable"
    title = "Not available now"


class DiskFull(CommonsError):
    """The store's disk is full; nothing was recorded."""

    slug = "disk-full"
    title = "Disk full"


class NotFound(CommonsError):
    """No such thing."""

    slug = "not-found"
    title = "Not found"
