"""API keys: `Authorization: Bearer ck_<key id>_<secret>`. They read, and command only what moves nothing."""

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


def api_key_owner(authorization: str, directory: Directory, now_ms: int) -> str:
    """Return the member whose API key this is; raises UnknownKey (it may only be too new), AuthenticationFailed."""
    scheme, _, token = authorization.partition(" ")
    if scheme.lower() != _SCHEME or not token.startswith(_PREFIX):
        raise AuthenticationFailed("the Authorization header is 'Bearer ck_<key id>_<secret>'")
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
