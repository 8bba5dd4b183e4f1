"""API keys: the member keeps the secret, the registry knows its hash."""

from __future__ import annotations

import re
from typing import Final

from events.registry import ApiKeyIssued, ApiKeyRevoked
from events.values import DAY_MS
from services.kernel.decider import Context, Decision, Emit
from services.kernel.errors import InvalidField
from services.registry.commands import IssueApiKey, RevokeApiKey
from services.registry.decide.guards import known_member, plain_text
from services.registry.errors import ApiKeyInUse, TooManyApiKeys, UnknownApiKey
from services.registry.state import Directory

MOST_LIVING: Final = 16
LONGEST_MS: Final = 400 * DAY_MS

_KEY_ID: Final = re.compile(r"[0-9a-f]{16,32}\Z")
_SHA256: Final = re.compile(r"[0-9a-f]{64}\Z")


def issue_api_key(command: IssueApiKey, state: Directory, context: Context) -> Decision:
    """Issue a key to the actor. Raises UnknownMember, InvalidField, ApiKeyInUse, TooManyApiKeys."""
    member = known_member(state, context.actor)
    if not _KEY_ID.match(command.key_id):
        raise InvalidField("key_id must be 16 to 32 lower-case hex digits", field="key_id")
    if not _SHA256.match(command.secret_sha256):
        raise InvalidField("secret_sha256 must be the lower-case hex SHA-256 of the secret", field="secret_sha256")
    plain_text(command.label, "label")
    if not context.time_ms < command.expires_ms <= context.time_ms + LONGEST_MS:
        raise InvalidField("expires_ms must lie in the future, at most 400 days ahead", field="expires_ms")
    if command.key_id in state.api_keys or command.key_id in state.dead_api_keys:
        raise ApiKeyInUse("an API key with this id exists or existed", key_id=command.key_id)
    living = [
        key for key in state.api_keys.values() if key.member == member.member and key.expires_ms > context.time_ms
    ]
    if len(living) >= MOST_LIVING:
        raise TooManyApiKeys(f"a member has at most {MOST_LIVING} API keys: revoke one first", limit=MOST_LIVING)
    fact = ApiKeyIssued(member.member, command.key_id, command.secret_sha256, command.label, command.expires_ms)
    return Decision((Emit(member.member, fact),), {"key_id": command.key_id, "expires_ms": command.expires_ms})


def revoke_api_key(command: RevokeApiKey, state: Directory, context: Context) -> Decision:
    """End one of the actor's keys; another member's looks like none. Raises UnknownApiKey."""
    key = state.api_keys.get(command.key_id)
    if key is None or key.member != context.actor:
        raise UnknownApiKey("you have no such API key", key_id=command.key_id)
    return Decision((Emit(key.member, ApiKeyRevoked(key.member, key.key_id)),), {"key_id": key.key_id})
