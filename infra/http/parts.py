"""What the edge is made of: plain arguments, bundled once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from events.genesis import Limits
from events.telemetry import Meter, Unmetered
from infra.http.authentication import Authentication, Who
from infra.http.freshness import FreshDirectory
from infra.http.incoming import Incoming
from infra.http.limits import RateLimits
from services.kernel.acks import Acknowledger
from services.kernel.appender import Appender
from services.kernel.errors import AuthenticationFailed, CommonsError, PermissionDenied
from services.kernel.feed import DirectoryFeed
from services.kernel.nonces import Nonces
from services.kernel.roles import Permission, permits
from services.kernel.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Settings:
    """Sizes and times of the edge. `public_url` is what callers sign; it has no slash at its end."""

    public_url: str
    command_bytes: int = 65_536
    bulk_bytes: int = 4_194_304
    submit_seconds: float = 30.0
    body_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything a request needs. `ready` names what is not ready yet; an empty answer means ready.

    `warnings` names what an operator must look at although everything is served; `metrics` is Prometheus text.
    """

    settings: Settings
    appenders: Mapping[str, Appender[Any]]
    directory: FreshDirectory
    authentication: Authentication
    acknowledger: Acknowledger
    nonces: Nonces
    sessions: Sessions
    limits: RateLimits
    now_ms: Callable[[], int]
    ready: Callable[[], Awaitable[Sequence[str]]]
    warnings: Callable[[], Awaitable[Sequence[str]]]
    meter: Meter = field(default_factory=Unmetered)
    metrics: Callable[[], Awaitable[bytes]] | None = None

    async def admit(self, incoming: Incoming, permission: Permission, kind: str, *, api_key: bool) -> Who:
        """Return who asks, once they are within their limits, permitted, and no replay.

        Raises AuthenticationFailed, PermissionDenied, TooManyRequests, StoreUnavailable.
        """
        try:
            who = await self.authentication.identify(incoming)
        except AuthenticationFailed:
            self.charge(incoming, None, kind)
            raise
        self.charge(incoming, who.actor, kind)
        if who.means == "api-key" and not api_key:
            raise PermissionDenied("an API key reads, and commands only what moves nothing: sign this request")
        if who.actor is not None and not permits(who.directory, who.actor, permission):
            # A role granted a moment ago counts: nobody is refused on a directory that is a blink old.
            who = replace(who, directory=await self.directory.newest())
        if not permits(who.directory, who.actor, permission):
            refusal: type[CommonsError] = AuthenticationFailed if who.actor is None else PermissionDenied
            raise refusal(f"this needs the permission {permission}", permission=permission)
        await self._take_nonce(who)
        return who

    async def _take_nonce(self, who: Who) -> None:
        if who.signed is None:
            return
        try:
            await self.authentication.take_nonce(who)
        except AuthenticationFailed:
            self.meter.count("commons_nonces_replayed", 1)
            raise
        self.meter.count("commons_nonces_taken", 1)

    def charge(self, incoming: Incoming, actor: str | None, kind: str) -> None:
        """Count a request against its actor's limits, or its address's; raises TooManyRequests."""
        community = self.directory.latest.community
        limits = community.limits if community else Limits()
        who = actor or f"address {incoming.address}"
        if kind == "queries":
            self.limits.spend("queries", who, limits.queries_per_minute)
            return
        self.limits.spend("commands", who, limits.commands_per_minute)
        self.limits.spend("bytes", who, limits.bytes_per_minute, len(incoming.body or b""))


def make_parts(
    settings: Settings,
    *,
    appenders: Mapping[str, Appender[Any]],
    feed: DirectoryFeed,
    acknowledger: Acknowledger,
    nonces: Nonces,
    now_ms: Callable[[], int],
    ready: Callable[[], Awaitable[Sequence[str]]],
    warnings: Callable[[], Awaitable[Sequence[str]]] | None = None,
) -> Parts:
    """Put the edge's parts together."""
    directory = FreshDirectory(feed)
    sessions = Sessions(acknowledger.private, acknowledger.kid)
    return Parts(
        settings=settings,
        appenders=appenders,
        directory=directory,
        authentication=Authentication(directory, nonces, sessions, now_ms),
        acknowledger=acknowledger,
        nonces=nonces,
        sessions=sessions,
        limits=RateLimits(now_ms),
        now_ms=now_ms,
        ready=ready,
        warnings=warnings if warnings is not None else _none,
    )


async def _none() -> Sequence[str]:
    return ()
