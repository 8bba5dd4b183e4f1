"""The caller's own signature over a command (DESIGN 8), made and read: `{"jws": "..."}` or `{"eip712": {...}}`.

It goes into the fact, so anyone can check later that the actor wanted exactly this. Its nonce is the command id: one
authorization takes effect at most once, whoever sends it again.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.http.authentication import Who, signing_key
from services.kernel.eip712 import DOMAIN, domain_type
from services.kernel.errors import AuthenticationFailed, InvalidField, MalformedRequest, PermissionDenied
from services.kernel.ethereum import recover
from services.kernel.jws import parse_jws, sign_jws
from services.kernel.routes import CommandRoute
from services.kernel.sessions import wallet_member
from services.kernel.strict_json import parse_json
from services.kernel.typed_commands import command_types, digest, read_body, signed_text, wallet_domain

MAX_COMMAND_ID: Final = 128

_PAYLOAD: Final = frozenset({"command", "genesis", "nonce", "body"})
_TYPED: Final = frozenset({"types", "primaryType", "domain", "message", "signature"})


@dataclass(frozen=True, slots=True)
class Authorization:
    """A signature that verified: its text for the fact, whose it is, what was signed, the command's nonce and body."""

    text: str
    signer: str
    payload: bytes
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


def read_authorization(parsed: Any, who: Who, route: CommandRoute) -> Authorization:
    """Return the caller's authorization of this very command.

    Raises InvalidField for a body that is neither `{"jws": text}` nor `{"eip712": object}` (PermissionDenied when a
    session sends it: a token alone moves nothing), AuthenticationFailed for a signature that is not the caller's, not
    of this command or of another community, MalformedRequest for a payload that is no strict JSON.
    """
    if isinstance(parsed, dict) and set(parsed) == {"eip712"} and isinstance(parsed["eip712"], dict):
        return _read_typed(parsed["eip712"], who, route)
    if isinstance(parsed, dict) and set(parsed) == {"jws"} and isinstance(parsed["jws"], str):
        return _read_jws(parsed["jws"], who, route.name)
    if who.means == "session":
        raise PermissionDenied(f"a session alone cannot do this: {route.name} must be signed by your wallet (EIP-712)")
    raise InvalidField('the body must be {"jws": "<compact JWS>"} or {"eip712": {...}} and nothing else')


def _read_typed(signed: dict[str, Any], who: Who, route: CommandRoute) -> Authorization:
    if set(signed) != _TYPED or not isinstance(signed["message"], dict) or not isinstance(signed["signature"], str):
        raise InvalidField(f"/eip712: signed typed data has exactly the members {' '.join(sorted(_TYPED))}")
    message, domain = signed["message"], wallet_domain(who.directory)
    if signed["primaryType"] != route.name:
        raise AuthenticationFailed(f"the authorization is for another command than {route.name}")
    if signed["domain"] != domain:
        raise AuthenticationFailed(
            "the authorization is for another community, chain or contract: see the domain", domain=domain
        )
    nonce = message.get("nonce")
    if not isinstance(nonce, str):
        raise InvalidField("/eip712/message/nonce: the nonce of a signed command is a text")
    body = read_body(route.body, message)
    types = {DOMAIN: domain_type(domain), **command_types(route.name, route.body, message)}
    if signed["types"] != types:
        raise InvalidField("/eip712/types: these are not the types of this message", types=types)
    data = {"types": types, "primaryType": route.name, "domain": domain, "message": message}
    address = recover(digest(data), signed["signature"])
    if wallet_member(who.directory, address) != who.actor:
        raise AuthenticationFailed("the authorization is signed with another one's wallet", address=address)
    text, payload = signed_text(data, signed["signature"]), msgspec.json.encode(message, order="sorted")
    return Authorization(text, address, payload, check_command_id(nonce), msgspec.json.encode(body))


def _read_jws(text: str, who: Who, command_name: str) -> Authorization:
    jws = parse_jws(text)
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
    body = msgspec.json.encode(payload["body"])
    return Authorization(jws.text, jws.kid, jws.payload, check_command_id(nonce), body)


def check_command_id(text: str) -> str:
    """Return the text when it can name a command: 1 to 128 printable ASCII characters; raises InvalidField."""
    if not 0 < len(text) <= MAX_COMMAND_ID or not text.isascii() or not text.isprintable():
        raise InvalidField(f"a command id has 1 to {MAX_COMMAND_ID} printable ASCII characters")
    return text
