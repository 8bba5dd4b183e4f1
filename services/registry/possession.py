"""Proof that somebody holds a key or a wallet that shall sign for a member: checked at the edge, before the lock."""

from __future__ import annotations

from events.registry_terms import PublicKey, Wallet
from services.kernel.errors import AuthenticationFailed, InvalidField
from services.kernel.ethereum import is_address, recover
from services.kernel.jws import parse_jws, unb64
from services.kernel.routes import Caller
from services.kernel.typed_commands import digest, possession_statement, signed_text, wallet_domain
from services.registry import bodies
from services.registry.keys import key_problem, possession_payload


def held_wallet(body: bodies.WalletBody, caller: Caller, subject: str, replaces: str = "") -> Wallet:
    """Return the wallet once it has signed that it is `subject`'s. Raises InvalidField, AuthenticationFailed."""
    if not is_address(body.address):
        raise InvalidField("wallet: the address is not in its EIP-55 spelling", field="wallet")
    statement = possession_statement(wallet_domain(caller.directory), subject, body.address, replaces)
    if recover(digest(statement), body.possession) != body.address:
        raise AuthenticationFailed("the wallet must sign the statement of possession", address=body.address)
    return Wallet(body.address, signed_text(statement, body.possession))


def held_key(body: bodies.RotateKeyBody | bodies.LinkKeyBody, caller: Caller, replaces: str = "") -> PublicKey:
    """Return the key once it has signed that it is the caller's. Raises InvalidField, AuthenticationFailed."""
    key = body.key.key()
    problem = key_problem(key)
    if problem is not None:
        raise InvalidField(f"key: {problem}", field="key")
    possession = parse_jws(body.possession)
    statement = possession_payload(caller.directory.genesis_sha256, caller.actor, replaces, key.kid)
    if possession.kid != key.kid or possession.payload != statement:
        raise AuthenticationFailed("the new key must sign the statement of possession", kid=key.kid)
    possession.verify(unb64(key.x))
    return key
