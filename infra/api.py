"""The public HTTP API for programs that act for many keys: an import signs for members and nodes alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from infra.http.client import SignedClient
from infra.keys import SigningKey

PATIENCE_SECONDS = 120.0
CONNECTIONS = 32


class ApiRefused(Exception):
    """The server answered with a problem (RFC 9457); `problem` is its body."""

    def __init__(self, path: str, status: int, problem: Mapping[str, Any]) -> None:
        """Keep where, the status and the problem."""
        super().__init__(f"{path} answered {status}: {problem.get('title', '')}: {problem.get('detail', '')}")
        self.status = status
        self.problem = problem


class HttpApi:
    """Calls one server with whichever key a call names; waits while the server is away."""

    def __init__(self, base_url: str, public_url: str, genesis_sha256: str) -> None:
        """Call `base_url`, sign `public_url`, and bind authorizations to the community of that genesis."""
        self._base_url = base_url
        self._public_url = public_url
        self.genesis = genesis_sha256
        self._transport = httpx.AsyncHTTPTransport(
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        )
        self._clients: dict[str, SignedClient] = {}
        self._reader = httpx.AsyncClient(base_url=base_url, timeout=60.0, trust_env=False)

    async def __aenter__(self) -> Self:
        """Enter; leaving closes the connections."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._reader.aclose()
        await self._transport.aclose()

    async def command(self, key: SigningKey, path: str, body: Mapping[str, Any], step: str) -> Mapping[str, Any]:
        """Send a signed command under the idempotency key `step`. Raises ApiRefused."""
        answer: Mapping[str, Any] = _answer(path, await self._client(key).command(path, body, idempotency_key=step))
        return answer

    async def authorised(
        self, key: SigningKey, name: str, path: str, body: Mapping[str, Any], step: str
    ) -> Mapping[str, Any]:
        """Send a command that carries its actor's own signature; `step` is its nonce. Raises ApiRefused."""
        response = await self._client(key).authorized(path, name, body, self.genesis, nonce=step)
        answer: Mapping[str, Any] = _answer(path, response)
        return answer

    async def bulk(self, key: SigningKey, path: str, elements: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        """Send many elements; one answer each. Raises ApiRefused."""
        answers: Sequence[Mapping[str, Any]] = _answer(path, await self._client(key).command(path, list(elements)))
        return answers

    async def view(self, path: str, **params: str | int) -> Mapping[str, Any]:
        """Query a view that anyone may read. Raises ApiRefused."""
        answer: Mapping[str, Any] = _answer(path, await self._reader.get(path, params=params))
        return answer

    def _client(self, key: SigningKey) -> SignedClient:
        client = self._clients.get(key.kid)
        if client is None:
            client = self._clients[key.kid] = SignedClient(
                self._base_url,
                key.private,
                public_url=self._public_url,
                patience_seconds=PATIENCE_SECONDS,
                transport=self._transport,
            )
        return client


def _answer(path: str, response: httpx.Response) -> Any:
    if response.status_code != httpx.codes.OK:
        kind = response.headers.get("content-type", "")
        raise ApiRefused(path, response.status_code, response.json() if "json" in kind else {"detail": response.text})
    return response.json()
