"""The port of subject keys: one key per person, outside the log. Whoever has it opens what is sealed about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class SubjectKeys(Protocol):
    """Keeps a random 32-byte key per subject (`member/<id>`). Every method may raise StoreUnavailable.

    Durability, in words: a key that `create` returned survives the loss of power, or texts sealed with it would be
    lost. When `destroy` has returned, the key can be computed from nothing this store keeps: not from its tables, not
    from the database's files or its log, not from the files of the home. Copies others made (backups of the key
    store, at most 30 days old) are theirs to end.
    """

    async def create(self, subject: str) -> bytes:
        """Return the subject's key, made at the first call. Raises SubjectIsErased once it was destroyed."""
        ...

    async def get(self, subject: str) -> bytes | None:
        """Return the subject's key; None when it was never made or is destroyed."""
        ...

    async def destroy(self, subjects: Sequence[str]) -> None:
        """Destroy the subjects' keys for ever, made or not; what is destroyed already stays so."""
        ...

    async def living(self) -> Mapping[str, bytes]:
        """Return all keys that are not destroyed, by subject: what a backup of the key store holds."""
        ...

    async def restore(self, keys: Mapping[str, bytes]) -> int:
        """Take keys back from a backup and return how many were missing; a destroyed one is never taken back."""
        ...
