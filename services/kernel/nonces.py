"""The nonce port: a signed request works once."""

from __future__ import annotations

from typing import Protocol


class Nonces(Protocol):
    """Remembers which nonces of which key were used, at least until they expire."""

    async def take(self, kid: str, nonce: str, expires_ms: int) -> bool:
        """Return True for the first to bring (kid, nonce), False for everyone after it. Raises StoreUnavailable.

        A nonce may be forgotten once `expires_ms` (UTC milliseconds) has passed: a request that old is refused for
        its age. It may also be forgotten by a crash within the last second; then the command id, which is durable,
        makes the repetition harmless.
        """
        ...
