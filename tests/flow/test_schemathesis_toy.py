"""The signed fuzzing itself, tried on the toy's edge: it reaches the rules, and it sees what is wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from schemathesis.core.failures import ServerError

from events.genesis import Limits
from events.store import Store, StoreUnavailable
from infra.http.server import bind, serving
from tests.flow.schemathesis_signed import Calls, run_signed
from tests.toy_edge import GENESIS, AwayStore, Community3, ToyEdge, toy_edge

OPEN = Limits(commands_per_minute=10**6, bytes_per_minute=10**9, queries_per_minute=10**6)


async def fuzz(
    keys: Community3,
    key_of: Callable[[ToyEdge, str], Ed25519PrivateKey],
    store: Store | None = None,
    max_examples: int = 8,
) -> dict[str, Calls]:
    listener = bind("127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with (
        toy_edge(keys, store, public_url=url, clock=lambda: time.time_ns() // 1_000_000) as edge,
        serving(edge.app, "127.0.0.1", 0, listener=listener),
    ):
        found = await asyncio.to_thread(
            run_signed, url, lambda name: key_of(edge, name), GENESIS, max_examples=max_examples
        )
        return dict(found)


def right_key(edge: ToyEdge, permission: str) -> Ed25519PrivateKey:
    return {"roles.grant": edge.keys.steward, "readings.record": edge.keys.node}.get(permission, edge.keys.member)


async def test_every_route_of_the_toy_is_reached_by_signed_calls_and_none_falls_over() -> None:
    found = await fuzz(Community3(limits=OPEN), right_key)
    assert set(found) == {
        "POST /v1/toy/count",
        "POST /v1/toy/free",
        "POST /v1/toy/signed",
        "POST /v1/toy/steward",
        "POST /v1/toy/many",
        "GET /v1/views/counts/{name}",
    }
    for label, calls in found.items():
        assert calls.statuses[200] > 0, (label, calls)
        assert calls.statuses[400] + calls.statuses[422] > 0, (label, calls)


async def test_calls_that_do_not_authenticate_fail_the_run() -> None:
    stranger = Ed25519PrivateKey.generate()
    with pytest.raises(AssertionError, match="0 of"):
        await fuzz(Community3(limits=OPEN, public_views=False), lambda _edge, _permission: stranger, max_examples=1)


async def test_a_5xx_fails_the_run() -> None:
    store = AwayStore("toy")
    store.error = StoreUnavailable("gone")
    with pytest.raises(BaseExceptionGroup) as failed:
        await fuzz(Community3(limits=OPEN), right_key, store)
    assert failed.group_contains(ServerError)
