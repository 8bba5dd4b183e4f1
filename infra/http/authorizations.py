"""The caller's own signature over a command: `{"jws": "..."}` (DESIGN 8), made and read.

The JWS goes into the fact, so anyone can check later that the actor wanted exactly this. Its nonce is the command id:
one authorization takes effect at most once, whoever sends it again.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.http.authentication import Who, signing_key
from services.kernel.errors import AuthenticationFailed, InvalidField, MalformedRequest
from services.kernel.jws import Jws, parse_jws, sign_jws
from services.kernel.strict_json import parse_json

MAX_COMMAND_ID: Final = 128

_PAYLOAD: Final = frozenset({"command", "genesis", "nonce", "body"})


@dataclass(frozen=True, slots=True)
class Authorization:
    """A JWS that verified: the command's body as bytes, and the nonce that names the command."""

    jws: Jws
    nonce: str
    body: bytes


def authorize(
    private: Ed25519PrivateKey,
    kid: str,
    genesis: str,
    command_name: str,
    body: Mapping[str, Any],
    nonce: str | None = None,
) -> dict[str, str]:
    """Return the request body of an `own_signature` route.

    `genesis` is the hex SHA-256 of the community's document (empty before it is founded); `nonce` names the command:
    the same one again is the same command, a random one by default.
    """
    payload = {"command": command_name, "genesis": genesis, "nonce": nonce or secrets.token_hex(16), "body": body}
    return {"jws": sign_jws(private, kid, msgspec.json.encode(payload))}


def read_authorization(parsed: Any, who: Who, command_name: str) -> Authorization:
    """Return the caller's authorization of this very command.

    Raises InvalidField for a body that is not `{"jws": text}`, AuthenticationFailed for a JWS that is not the
    caller's, not of this command or of another community, MalformedRequest for a payload that is no strict JSON.
    """
    if not isinstance(parsed, dict) or set(parsed) != {"jws"} or not isinstance(parsed["jws"], str):
        raise InvalidField('the body must be {"jws": "<compact JWS>"} and nothing else')
    jws = parse_jws(parsed["jws"])
    public = signing_key(who.directory, jws.kid)
    if who.directory.keys[jws.kid].subject != who.actor:
        raise AuthenticationFailed("the authorization is signed with another one's key", kid=jws.kid[:64])
    jws.verify(public.public_bytes_raw())
    payload = parse_json(jws.payload)
    if not isinstance(payload, dict) or set(payload) != _PAYLOAD:
        raise MalformedRequest(f"a signed command has exactly the members {' '.join(sorted(_PAYLOAD))}")
    if payload["command"] != command_name:
        raise AuthenticationFailed(f"the authorization is for another command than {command_name}")
    if payload["genesis"] != who.directory.genesis_sha256:
        raise AuthenticationFailed("the authorization is for another community", genesis=who.directory.genesis_sha256)
    nonce = payload["nonce"]
    if not isinstance(nonce, str):
        raise InvalidField("the nonce of a signed command is a text")
    return Authorization(jws, check_command_id(nonce), msgspec.json.encode(payload["body"]))


def check_command_id(text: str) -> str:
    """Return the text when it can name a command: 1 to 128 printable ASCII characters; raises InvalidField."""
    if not 0 < len(text) <= MAX_COMMAND_ID or not text.isascii() or not text.isprintable():
        raise InvalidField(f"a command id has 1 to {MAX_COMMAND_ID} printable ASCII characters")
    return text
