"""Replaces a key of this home by a new one, so that a crash at any step leaves a key that works.

The acknowledgements' key changes while nothing runs here. The operator's changes in the registry first, by a command
the old key signs; the file follows. A rotation that was cut off between the two is ended by the next one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Final

from infra.api import HttpApi
from infra.home import maintenance
from infra.key_ring import KeyRing
from infra.keys import KeyFileRefused, SigningKey, derive_key
from infra.local import Say, database, local_url, processes, ready
from infra.platform import CHILDREN, open_platform, wall_clock_ms
from infra.postgres.place import HomeLock, Place
from infra.settings import Settings
from services.kernel.directory import Directory
from services.registry.keys import possession_payload

WHY_NOT: Final = {
    "inputs": "the answers of all past commands are bound to it: with another one a repeated command would be refused",
    "master": "it wraps sealed subjects' keys: every erasure replaces it, and so does `commons keystore rewrap`",
    "postgres.password": "it belongs to the embedded database: back up, and restore into a new home",
}


async def rotate_acknowledgements(settings: Settings) -> SigningKey:
    """Give this instance a new signing key; the old public one stays published. Raises KeyFileRefused, HomeInUse."""
    if await ready(local_url(settings)):
        raise KeyFileRefused("this instance is running and signs with its key: stop it, rotate, start it again")
    with maintenance(settings.home), _nothing_up(settings):
        ring = KeyRing(settings.home)
        ring.draft("acknowledgements")
        return ring.adopt("acknowledgements", wall_clock_ms())


@contextmanager
def _nothing_up(settings: Settings) -> Iterator[None]:
    """Hold the embedded database, which `commons up` needs, whatever address it serves at. Raises HomeInUse."""
    if not settings.embedded:
        yield
        return
    place = Place(settings.home)
    place.make_directories()
    lock = HomeLock(place)
    try:
        yield
    finally:
        lock.release()


async def rotate_operator(settings: Settings, say: Say) -> SigningKey:
    """Replace the operator's key in the registry and in the home. Raises KeyFileRefused, ApiRefused."""
    with maintenance(settings.home):
        ring = KeyRing(settings.home)
        async with AsyncExitStack() as stack:
            if not await ready(local_url(settings)):
                await stack.enter_async_context(processes(settings, CHILDREN, say))
            async with database(settings, say) as dsn, open_platform(settings, dsn) as platform:
                directory = await platform.feed.current()
            await _record(settings, ring, directory)
        return ring.adopt("operator", wall_clock_ms())


async def _record(settings: Settings, ring: KeyRing, directory: Directory) -> None:
    """Tell the registry, unless a rotation that was cut off has told it already."""
    old, member = ring.keys.signing("operator"), ring.member()
    known = directory.members.get(member)
    if known is None:
        raise KeyFileRefused(f"{member} is no member here yet: found the community first, or replace the key file")
    if ring.has_draft("operator") and known.kid == ring.draft("operator").kid:
        return
    if known.kid != old.kid:
        raise KeyFileRefused(f"the registry knows another key of {member}: restore keys/operator.key from your backup")
    _refuse_derived(ring, directory)
    new = ring.draft("operator")
    statement = possession_payload(directory.genesis_sha256, member, old.kid, new.kid)
    body = {"key": {"kid": new.kid, "x": new.public.x}, "possession": new.jws(statement)}
    async with HttpApi(local_url(settings), settings.public_url, directory.genesis_sha256) as api:
        await api.authorised(old, "RotateKey", "/v1/registry/keys/rotate", body, f"rotate-{new.kid}")


def _refuse_derived(ring: KeyRing, directory: Directory) -> None:
    """In a demo or an import others' keys follow from this one: they would be lost with it."""
    seed = ring.keys.secret("operator")
    follow = [
        member.handle
        for member in directory.members.values()
        if member.handle != "operator" and derive_key(seed, "member", member.handle).kid == member.kid
    ]
    if follow:
        raise KeyFileRefused(
            f"the keys of {', '.join(sorted(follow)[:5])} are derived from this one (a demo or an import): they would "
            "be lost with it, so it is not rotated"
        )
