"""The agent's way to the server: five calls, signed with the node's key; every answer tells the server's time."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol

import httpx

from infra.http.client import SignedClient
from infra.keys import SigningKey

PATIENCE_SECONDS: Final = 2.0
TIMEOUT_SECONDS: Final = 10.0
LONGEST_PAGE: Final = 100

AWAY: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
"""Answers after which the same may be asked again later: nothing is wrong with what was asked."""


class Away(Exception):
    """The server cannot be reached, or says that it cannot answer now."""


class LinkRefused(Exception):
    """The server refused; `slug` names the rule."""

    def __init__(self, path: str, status: int, slug: str, detail: str) -> None:
        """Keep where and why."""
        super().__init__(f"{path} answered {status} {slug}: {detail}")
        self.status = status
        self.slug = slug


class Clock(Protocol):
    """This machine's time."""

    def now_ms(self) -> int:
        """Return milliseconds since 1970, UTC."""
        ...

    def monotonic_ms(self) -> int:
        """Return milliseconds that never go back."""
        ...


Observe = Callable[[int, int, int], None]
"""`observe(sent_ms, received_ms, date_ms)`: what an answer says about the clocks."""


class Link:
    """Calls one server for one node."""

    def __init__(
        self,
        base_url: str,
        public_url: str,
        key: SigningKey,
        clock: Clock,
        observe: Observe,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        """Call `base_url`, sign `public_url`; tell `observe` what every answer says about the time."""
        self._client = SignedClient(
            base_url,
            key.private,
            public_url=public_url,
            patience_seconds=patience_seconds,
            timeout_seconds=TIMEOUT_SECONDS,
            connections=4,
        )
        self._clock = clock
        self._observe = observe

    async def close(self) -> None:
        """Close the connections."""
        await self._client.__aexit__(None, None, None)

    async def leases(self, node: str, ending_after_ms: int) -> list[Mapping[str, Any]]:
        """Return the node's leases that end after a moment, as the view shows them. Raises Away, LinkRefused."""
        found: list[Mapping[str, Any]] = []
        params: dict[str, str | int] = {"node": node, "ending_after_ms": ending_after_ms, "limit": LONGEST_PAGE}
        while True:
            page = await self._ask("/v1/views/usage/leases", _has("items", "next"), params=params)
            found += page["items"]
            if not page["next"]:
                return found
            params["cursor"] = page["next"]

    async def heartbeat(self, minute: int, spool_sha256: str) -> str:
        """Say that the node is there; return the receipt, a compact JWS. Raises Away, LinkRefused."""
        body = {"minute": minute, "spool_sha256": spool_sha256}
        answer = await self._ask("/v1/metering/heartbeats", _has("receipt"), body=body)
        return str(answer["receipt"])

    async def tell_hour(self, jws: str) -> None:
        """Commit to an hour's heartbeats and spool. Raises Away, LinkRefused."""
        await self._ask("/v1/metering/heartbeat-hours", _has(), body={"jws": jws})

    async def readings(self, batches: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """Send signed batches; return one answer each. Raises Away, LinkRefused."""

        def one_each(told: Any) -> bool:
            return isinstance(told, list) and len(told) == len(batches) and all(map(_has("status"), told))

        answers: Sequence[Mapping[str, Any]] = await self._ask("/v1/metering/readings", one_each, body=list(batches))
        return answers

    async def _ask(
        self, path: str, fits: Callable[[Any], bool], *, body: Any = None, params: Mapping[str, Any] | None = None
    ) -> Any:
        """Return an answer that `fits`; what no instance says (a proxy, a hotel's network) is its being away."""
        sent = self._clock.now_ms()
        try:
            if body is None:
                response = await self._client.query(path, params)
            else:
                response = await self._client.command(path, body)
        except httpx.RequestError as error:
            raise Away(f"the server cannot be reached: {str(error) or type(error).__name__}") from error
        self._note_date(response, sent)
        told = _json(response)
        if response.status_code == httpx.codes.OK and fits(told):
            return told
        if response.status_code in AWAY:
            raise Away(f"{path} answered {response.status_code}")
        if response.status_code == httpx.codes.OK or not _has("type")(told):
            raise Away(f"{path} answered {response.status_code}, but no instance answers so: is a proxy between?")
        slug = re.split("[/:]", str(told["type"]))[-1]
        raise LinkRefused(path, response.status_code, slug, str(told.get("detail", "")))

    def _note_date(self, response: httpx.Response, sent: int) -> None:
        try:
            date = parsedate_to_datetime(response.headers.get("date", ""))
        except ValueError:
            return
        self._observe(sent, self._clock.now_ms(), round(date.timestamp() * 1_000))


def _json(response: httpx.Response) -> Any:
    """Return what an answer says; None where it is no JSON."""
    try:
        return response.json()
    except ValueError:
        return None


def _has(*names: str) -> Callable[[Any], bool]:
    """Return what tells whether an answer is an object with these members."""
    return lambda told: isinstance(told, dict) and told.keys() >= {*names}
