"""RFC 9421 request signatures with Ed25519, checked by the `http-message-signatures` library.

Covered components are exactly `@method @target-uri content-type content-digest` (without a body `@method @target-uri`);
`idempotency-key` may be covered beside them, and our client does, because that header names the command. Parameters
are exactly `created expires nonce keyid alg`. The target URI is made from the configured public URL and the request's
raw path, never from the Host header.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from cryptography.exceptions import InvalidSignature as WrongSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from http_message_signatures import (
    HTTPMessageSignaturesException,
    HTTPMessageVerifier,
    HTTPSignatureKeyResolver,
    algorithms,
)

from services.kernel.errors import AuthenticationFailed

WINDOW_SECONDS: Final = 300
"""The longest life of a signature, from `created` to `expires`."""

SKEW_SECONDS: Final = 30
"""How far ahead of ours a caller's clock may be."""

WITHOUT_BODY: Final = frozenset({"@method", "@target-uri"})
WITH_BODY: Final = WITHOUT_BODY | {"content-type", "content-digest"}
OPTIONAL: Final = frozenset({"idempotency-key"})
PARAMETERS: Final = frozenset({"created", "expires", "nonce", "keyid", "alg"})

_MAX_HEADER: Final = 2_048
_MAX_NONCE: Final = 128


@dataclass(frozen=True, slots=True)
class Message:
    """A request as the signature library reads it. Header names are lower case."""

    method: str
    url: str
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Signed:
    """A signature that verified: whose key, its nonce, and when it expires (milliseconds UTC)."""

    kid: str
    nonce: str
    expires_ms: int


class UnknownKey(AuthenticationFailed):
    """No living or dead key has this id; it may only be too new for this process."""


def verify_request(
    message: Message, body: bytes | None, key_of: Callable[[str], Ed25519PublicKey], now_ms: int
) -> Signed:
    """Return what the request's one signature says, once it has verified over the body too.

    `key_of` raises UnknownKey or AuthenticationFailed for a key that may not sign. Raises AuthenticationFailed.
    """
    for name in ("signature-input", "signature"):
        if len(message.headers.get(name, "")) > _MAX_HEADER:
            raise AuthenticationFailed(f"the {name} header is too long")
    verifier = _Verifier(key_of, now_ms, WITHOUT_BODY if body is None else WITH_BODY)
    try:
        (result,) = verifier.verify(message, body=body)
    except HTTPMessageSignaturesException as error:
        if isinstance(error.__cause__, AuthenticationFailed):
            raise error.__cause__ from None
        if isinstance(error.__cause__, WrongSignature):
            raise AuthenticationFailed("the signature does not verify", target_uri=message.url) from error
        raise AuthenticationFailed(f"the signature is refused: {error}") from error
    parameters = result.parameters
    return Signed(str(parameters["keyid"]), str(parameters["nonce"]), int(parameters["expires"]) * 1_000)


class _Keys(HTTPSignatureKeyResolver):
    def __init__(self, key_of: Callable[[str], Ed25519PublicKey]) -> None:
        self._key_of = key_of

    def resolve_public_key(self, key_id: str) -> Ed25519PublicKey:
        return self._key_of(key_id)


class _Verifier(HTTPMessageVerifier):
    """The library's verifier with our clock and our demands, all checked before any cryptography."""

    def __init__(self, key_of: Callable[[str], Ed25519PublicKey], now_ms: int, required: frozenset[str]) -> None:
        super().__init__(signature_algorithm=algorithms.ED25519, key_resolver=_Keys(key_of))
        self._now = now_ms // 1_000
        self._required = required

    def validate_created_and_expires(self, sig_input: Any, max_age: timedelta | None = None) -> None:  # noqa: ARG002
        """Check parameters, covered components and times; replaces the library's own clock."""
        if missing := PARAMETERS.symmetric_difference(sig_input.params):
            raise AuthenticationFailed(f"signature parameters are exactly {_list(PARAMETERS)}; see {_list(missing)}")
        covered = [item.value for item in sig_input if not item.params]
        found = set(covered)
        if len(covered) != len(sig_input) or found - OPTIONAL != self._required:
            raise AuthenticationFailed(f"the signature must cover exactly {_list(self._required)}")
        nonce, created, expires = (sig_input.params[name] for name in ("nonce", "created", "expires"))
        if not 0 < len(nonce) <= _MAX_NONCE:
            raise AuthenticationFailed(f"the nonce has 1 to {_MAX_NONCE} characters")
        self._check_times(created, expires)

    def _check_times(self, created: int, expires: int) -> None:
        if created > self._now + SKEW_SECONDS:
            ahead = created - self._now
            raise AuthenticationFailed(f"your clock is off: the signature was made {ahead} s in the future")
        if not created < expires <= created + WINDOW_SECONDS:
            raise AuthenticationFailed(f"expires must be 1 to {WINDOW_SECONDS} s after created")
        if expires < self._now:
            late = self._now - expires
            raise AuthenticationFailed(f"the signature expired {late} s ago; if you signed just now, your clock is off")


def _list(names: frozenset[str] | set[str]) -> str:
    return " ".join(sorted(names))
