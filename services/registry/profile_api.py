"""Routes of personal data: they need the key store, and chance for nonces.

Two steps, because a fact carries the member's own signature and no plain text: `seal` answers the sealed texts and
keeps nothing; the member signs exactly these and sends them back, and they are opened once more before the lock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from events.registry import ProfileSealed
from events.registry_terms import ProfileField
from events.sealing import NONCE_BYTES, Place, SealRefused, open_text, seal_text
from services.kernel.errors import InvalidField, SubjectIsErased
from services.kernel.routes import Caller, CommandRoute, Route, WorkingRoute
from services.kernel.subject_keys import SubjectKeys
from services.registry import bodies, commands
from services.registry.api import signed


def profile_routes(keys: SubjectKeys, chance: Callable[[int], bytes]) -> tuple[Route, ...]:
    """Return the routes over the key store; `chance(n)` gives n random bytes."""
    return (
        WorkingRoute(
            "SealTexts",
            "/v1/registry/profiles/seal",
            "profiles.manage",
            bodies.ProfileBody,
            _sealer(keys, chance),
            "Have your profile sealed under your own key, to be signed and sent back; nothing is kept",
        ),
        CommandRoute(
            "SealProfile",
            "/v1/registry/profiles",
            "profiles.manage",
            bodies.SealProfileBody,
            _reader(keys),
            own_signature=True,
            summary="Replace your profile by sealed texts; you sign the sealed texts, never the plain ones.",
            input_key=_subject_key(keys),
        ),
        CommandRoute(
            "EraseSubject",
            "/v1/registry/profiles/erase",
            "profiles.manage",
            bodies.EraseSubjectBody,
            lambda body, caller: commands.EraseSubject(body.member, signed(caller)),
            own_signature=True,
            summary="Erase your personal data for ever: your key is destroyed.",
        ),
    )


def place_of(field: str, member: str) -> Place:
    """Return where a field of a member's profile is sealed."""
    return Place(ProfileSealed.TYPE, field, member)


def _sealer(
    keys: SubjectKeys, chance: Callable[[int], bytes]
) -> Callable[[bodies.ProfileBody, Caller], Awaitable[Mapping[str, Any]]]:
    async def seal(body: bodies.ProfileBody, caller: Caller) -> Mapping[str, Any]:
        """Seal what was sent. Raises InvalidField, SubjectIsErased, StoreUnavailable."""
        texts: dict[str, str] = body.model_dump(exclude_none=True)
        if not texts:
            raise InvalidField("a profile has at least one field")
        _not_erased(caller)
        key = await keys.create(caller.actor)
        sealed = {
            field: seal_text(key, place_of(field, caller.actor), text, chance(NONCE_BYTES))
            for field, text in sorted(texts.items())
        }
        return {"member": caller.actor, "sealed": sealed}

    return seal


def _reader(keys: SubjectKeys) -> Callable[[bodies.SealProfileBody, Caller], Awaitable[commands.SealProfile]]:
    async def read(body: bodies.SealProfileBody, caller: Caller) -> commands.SealProfile:
        """Check that every text opens under the caller's key in its place. Raises InvalidField, SubjectIsErased."""
        sealed = cast("dict[ProfileField, str]", body.sealed.model_dump(exclude_none=True))
        key = await _subject_key(keys)(caller)
        for field, text in sealed.items():
            try:
                open_text(key, place_of(field, caller.actor), text)
            except SealRefused as error:
                raise InvalidField(f"/sealed/{field}: {error}", field=f"sealed/{field}") from error
        return commands.SealProfile(sealed, signed(caller))

    return read


def _subject_key(keys: SubjectKeys) -> Callable[[Caller], Awaitable[bytes]]:
    async def find(caller: Caller) -> bytes:
        _not_erased(caller)
        key = await keys.get(caller.actor)
        if key is None:
            raise InvalidField("nothing was sealed for you yet: send your texts to /v1/registry/profiles/seal first")
        return key

    return find


def _not_erased(caller: Caller) -> None:
    if caller.actor in caller.directory.erased:
        raise SubjectIsErased("your personal data was erased, for ever", member=caller.actor)
