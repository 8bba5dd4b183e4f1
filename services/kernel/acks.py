"""`Commons-Ack`: the server's signature under what it answered, so that it can be held to it (DESIGN 8).

A compact JWS over who answered, what became of the command, when, and exactly which request it was. A caller who
keeps it can prove later that a fact was accepted under that position and record hash, or refused and why.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.kernel.jws import raw_public, sign_jws, thumbprint

HEADER: Final = "Commons-Ack"


class Ack(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """The signed payload. Either `position` (decimal text, "0": no fact was needed) or `refusal` (a problem slug).

    `record_hash` is the hex SHA-256 of the record at `position`; `time` is recorded time, or the server's clock for a
    refusal (RFC 3339, UTC). `actor` is who asked, once that was established. For a bulk, `position` is its last one and
    `answer_sha256` covers every item's answer.
    """

    service: str
    time: str
    request_sha256: str
    position: str | None = None
    record_hash: str | None = None
    refusal: str | None = None
    actor: str | None = None
    answer_sha256: str | None = None


def request_hash(method: str, target_uri: str, body: bytes) -> str:
    """Return the hex SHA-256 over length-prefixed method, target URI and body."""
    digest = hashlib.sha256()
    for part in (method.encode(), target_uri.encode(), body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Acknowledger:
    """Signs acknowledgements with the service's key; `kid` is its RFC 7638 thumbprint."""

    private: Ed25519PrivateKey
    kid: str

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> Acknowledger:
        """Return the acknowledger of a key."""
        return cls(private, thumbprint(raw_public(private)))

    def sign(self, ack: Ack) -> str:
        """Return the compact JWS of an acknowledgement."""
        return sign_jws(self.private, self.kid, msgspec.json.encode(ack))
