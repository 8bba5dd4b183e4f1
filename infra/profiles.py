"""Opens sealed profiles for those who may read them: the person, and stewards. Never from memory, never to a log."""

from __future__ import annotations

from collections.abc import Mapping

from events.registry import ProfileSealed
from events.sealing import Place, SealRefused, open_text
from services.kernel.errors import PermissionDenied
from services.kernel.feed import DirectoryFeed
from services.kernel.subject_keys import SubjectKeys

READERS = frozenset({"steward"})
"""Roles that read others' profiles."""


class ProfileOpener:
    """The opener of the view `profiles`. It asks the newest directory: a revoked role and an erasure count at once."""

    def __init__(self, keys: SubjectKeys, feed: DirectoryFeed) -> None:
        """Take plain parts."""
        self._keys = keys
        self._feed = feed

    async def open(self, actor: str | None, member: str, sealed: Mapping[str, str]) -> Mapping[str, str] | None:
        """Return the plain texts, None when there is no key any more. Raises PermissionDenied, StoreUnavailable."""
        directory = await self._feed.current()
        reader = directory.members.get(actor) if actor else None
        if reader is None or (actor != member and not READERS & reader.roles):
            raise PermissionDenied("only the person and stewards read a profile", permission="profiles.read")
        key = None if member in directory.erased else await self._keys.get(member)
        if key is None:
            return None
        opened = {}
        for field, text in sealed.items():
            try:
                opened[field] = open_text(key, Place(ProfileSealed.TYPE, field, member), text)
            except SealRefused:
                continue  # sealed under a key that was lost: there is nothing to show
        return opened
