"""Bearer tokens, and among them API keys: `Authorization: Bearer ck_<key id>_<secret>`.

An API key reads, and commands only what moves nothing. Every other token has to be a session's.
"""

from __future__ import annotations

import hashlib
import hmac

from infra.http.signatures import UnknownKey
from services.kernel.directory import Directory
from services.kernel.errors import AuthenticationFailed

_SCHEME = "bearer"
_PREFIX = "ck_"
_NOBODY = "0" * 64
"""Compared against when no such key exists, so that the time taken does not tell."""


def bearer_token(authorization: str) -> str:
    """Return the token of an Authorization header; raises AuthenticationFailed for another scheme."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != _SCHEME or not token:
        raise AuthenticationFailed("the Authorization header is 'Bearer' with an API key (ck_...) or a session token")
    return token


def is_api_key(token: str) -> bool:
    """Tell an API key from a session's token."""
    return token.startswith(_PREFIX)


def api_key_owner(token: str, directory: Directory, now_ms: int) -> str:
    """Return the member whose API key this is; raises UnknownKey (it may only be too new), AuthenticationFailed."""
    key_id, _, secret = token.removeprefix(_PREFIX).partition("_")
    key = directory.api_keys.get(key_id)
    stated = hashlib.sha256(secret.encode()).hexdigest()
    same = hmac.compare_digest(stated, key.secret_sha256 if key else _NOBODY)
    if key is None:
        raise UnknownKey("no such API key")
    if not same:
        raise AuthenticationFailed("no such API key")
    if key.expires_ms <= now_ms:
        raise AuthenticationFailed("the API key has expired", key_id=key_id)
    return key.member
