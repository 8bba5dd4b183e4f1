"""Limits, a store that is away or full, views, health, and the document that describes it all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from events.genesis import Limits
from events.store import StoreFull, StoreUnavailable
from infra.http.client import RequestSigner, SignedClient
from tests.edge_calls import COUNT, ack_of, slug
from tests.toy_edge import (
    NOW_MS,
    PUBLIC_URL,
    AwayStore,
    Community3,
    ToyEdge,
    toy_edge,
)


@pytest.fixture
async def edge() -> AsyncIterator[ToyEdge]:
    async with toy_edge() as made:
        yield made


async def test_a_rate_limit_says_when_to_come_back() -> None:
    async with (
        toy_edge(Community3(limits=Limits(commands_per_minute=2))) as edge,
        edge.client() as client,
        edge.client(edge.keys.steward) as other,
    ):
        answers = [await client.command(COUNT, {"name": "a"}) for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert slug(answers[2]) == "too-many-requests"
        assert answers[2].headers["retry-after"] == "1"
        assert (await other.command(COUNT, {"name": "a"})).status_code == 200, "limits are per actor"
        edge.clock.now_ms += 30_000
        assert (await client.command(COUNT, {"name": "a"})).status_code == 200


async def test_bytes_are_limited_too() -> None:
    async with toy_edge(Community3(limits=Limits(bytes_per_minute=1_000))) as edge, edge.client() as client:
        assert (await client.command(COUNT, {"name": "a", "padding": "x" * 2_000})).status_code == 200
        assert (await client.command(COUNT, {"name": "a"})).status_code == 429


async def test_those_who_do_not_sign_are_limited_by_address() -> None:
    async with (
        toy_edge(Community3(limits=Limits(queries_per_minute=2, commands_per_minute=2))) as edge,
        edge.plain() as client,
        edge.client() as signed,
    ):
        found = [(await client.get("/v1/views/counts/a")).status_code for _ in range(3)]
        assert found == [404, 404, 429]
        failed = [(await client.post(COUNT, json={"name": "a"})).status_code for _ in range(3)]
        assert failed == [401, 401, 429]
        assert (await signed.command(COUNT, {"name": "a"})).status_code == 200


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [(StoreUnavailable("gone"), 503, "unavailable"), (StoreFull("full"), 507, "disk-full")],
)
async def test_a_store_that_is_away_or_full_says_so(error: Exception, status: int, told: str) -> None:
    store = AwayStore("toy")
    async with toy_edge(store=store) as edge, edge.client() as client, edge.client(edge.keys.node) as node:
        store.error = error
        for response in (
            await client.command(COUNT, {"name": "a"}),
            await node.command("/v1/toy/many", ["a", "b"]),
        ):
            assert (response.status_code, slug(response)) == (status, told)
            assert ("retry-after" in response.headers) == (status == 503)
            assert ack_of(edge, response).refusal == told
        store.error = None
        assert (await client.command(COUNT, {"name": "a"})).status_code == 200


async def test_the_client_waits_for_a_store_that_comes_back_and_counts_once() -> None:
    store = AwayStore("toy")
    async with toy_edge(store=store) as edge, edge.client(patience_seconds=20) as client:
        store.error = StoreUnavailable("gone")
        asking = asyncio.create_task(client.command(COUNT, {"name": "a"}, idempotency_key="once"))
        await asyncio.sleep(0.2)
        store.error = None
        response = await asking
    assert response.json()["total"] == 1


async def test_a_store_that_never_answers_is_a_503(edge: ToyEdge) -> None:
    store = AwayStore("toy")
    async with toy_edge(store=store, submit_seconds=0.1) as slow, store.session(), slow.client() as client:
        response = await client.command(COUNT, {"name": "a"})
    assert (response.status_code, slug(response)) == (503, "unavailable")


async def test_a_mistake_of_ours_is_a_500_without_details(edge: ToyEdge) -> None:
    async with edge.client() as client:
        response = await client.command(COUNT, {"name": "stumble"})
    assert (response.status_code, slug(response)) == (500, "internal")
    assert "ZeroDivision" not in response.text


async def test_a_view_answers_with_the_position_it_reflects(edge: ToyEdge) -> None:
    async with edge.client() as client, edge.plain() as anyone:
        await client.command(COUNT, {"name": "a", "by": 4})
        signed = await client.query("/v1/views/counts/a", {"limit": 20}, at_least={"toy": 1, "metering": 0})
        public = await anyone.get("/v1/views/counts/a")
    assert signed.json() == {"name": "a", "total": 4, "actor": edge.keys.member_id, "limit": 20}
    assert signed.headers["commons-position"] == "toy=1"
    assert public.json()["actor"] is None


async def test_a_wrong_signature_is_refused_even_for_a_public_view(edge: ToyEdge) -> None:
    async with edge.client(Ed25519PrivateKey.generate()) as stranger:
        response = await stranger.query("/v1/views/counts/a")
    assert (response.status_code, slug(response)) == (401, "authentication-failed")


async def test_private_views_need_a_signature() -> None:
    async with toy_edge(Community3(public_views=False)) as edge, edge.plain() as anyone, edge.client() as client:
        assert (await anyone.get("/v1/views/counts/a")).status_code == 401
        assert (await client.query("/v1/views/counts/a")).status_code == 404


@pytest.mark.parametrize(
    ("query", "headers", "status"),
    [
        ("?limit=0", {}, 422),
        ("?limit=x", {}, 422),
        ("?number=9007199254740991", {}, 404),
        ("?number=9007199254740992", {}, 422),
        ("?number=-25231109520196926059839488", {}, 422),
        ("?limit=1&limit=2", {}, 422),
        ("?name=b", {}, 422),
        ("?more=1", {}, 422),
        ("?limit=%00", {}, 422),
        ("", {"commons-at-least": "toy"}, 422),
        ("", {"commons-at-least": "toy=01"}, 422),
        ("", {"commons-at-least": "toy=1, toy=2"}, 422),
        ("", {"commons-at-least": "toy=99"}, 503),
        ("", {"commons-at-least": "toy=0"}, 404),
    ],
)
async def test_a_query_that_is_none_is_refused(edge: ToyEdge, query: str, headers: dict[str, str], status: int) -> None:
    async with edge.plain() as client:
        response = await client.get(f"/v1/views/counts/a{query}", headers=headers)
    assert response.status_code == status, response.text
    assert slug(response)
    assert response.headers.get("retry-after") == ("3" if status == 503 else None)


async def test_a_view_whose_database_is_away_is_a_503(edge: ToyEdge) -> None:
    async with edge.plain() as client:
        response = await client.get("/v1/views/counts/gone")
    assert (response.status_code, slug(response)) == (503, "unavailable")


async def test_an_unknown_path_and_a_wrong_method_are_problems(edge: ToyEdge) -> None:
    async with edge.plain() as client:
        unknown, wrong = await client.get("/v1/nothing"), await client.get(COUNT)
    assert (unknown.status_code, slug(unknown)) == (404, "not-found")
    assert (wrong.status_code, slug(wrong)) == (405, "method-not-allowed")
    assert wrong.headers["allow"] == "POST"


async def test_health_says_live_at_once_and_ready_when_nothing_is_missing(edge: ToyEdge) -> None:
    async with edge.plain() as client:
        assert (await client.get("/health/live")).json() == {"status": "live"}
        assert (await client.get("/health/ready")).json() == {"status": "ready"}
        edge.missing.append("the store is starting")
        response = await client.get("/health/ready")
    assert (response.status_code, slug(response)) == (503, "not-ready")
    assert response.json()["detail"] == "the store is starting"


async def test_the_openapi_document_describes_bodies_permissions_and_signatures(edge: ToyEdge) -> None:
    async with edge.plain() as client:
        document = (await client.get("/v1/openapi.json")).json()
    operation = document["paths"][COUNT]["post"]
    assert operation["x-permission"] == "transactions.post"
    assert operation["security"] == [{"signature": []}, {"session": []}]
    assert operation["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/CountBody"
    }
    assert document["components"]["schemas"]["CountBody"]["additionalProperties"] is False
    assert {parameter["name"] for parameter in document["paths"]["/v1/views/counts/{name}"]["get"]["parameters"]} == {
        "name",
        "limit",
        "number",
        "Commons-At-Least",
    }


async def test_the_client_reaches_a_server_behind_another_address(edge: ToyEdge) -> None:
    signer = RequestSigner(edge.keys.member, now=lambda: NOW_MS / 1_000)
    transport = httpx.ASGITransport(edge.app)
    async with SignedClient(
        "http://10.0.0.1:8700", edge.keys.member, public_url=PUBLIC_URL, transport=transport, signer=signer
    ) as client:
        assert (await client.command(COUNT, {"name": "a"})).status_code == 200
