"""The edge on a real socket: a taken port, requests over the wire, a stop that lets requests in progress end."""

from __future__ import annotations

import asyncio
import socket
import time

import httpx
import pytest

from infra.http import protocol
from infra.http.client import SignedClient
from infra.http.server import AddressRefused, PortTaken, bind, serving
from tests.toy_edge import AwayStore, ToyEdge, toy_edge

HOST = "127.0.0.1"


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def client_of(edge: ToyEdge, url: str) -> SignedClient:
    return SignedClient(url, edge.keys.member, patience_seconds=5)


async def test_a_taken_port_says_which_and_what_to_set() -> None:
    with bind(HOST, 0) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} on 127.0.0.1 is taken.*COMMONS_LISTEN"):
            bind(HOST, port)
        with pytest.raises(PortTaken):
            async with serving(None, HOST, port):
                pass


async def test_commands_and_queries_work_over_the_wire_and_the_port_is_free_afterwards() -> None:
    port = free_port()
    url = f"http://{HOST}:{port}"
    async with toy_edge(public_url=url, clock=now_ms) as edge:
        for total in (1, 2):
            async with serving(edge.app, HOST, port) as address, client_of(edge, address) as client:
                assert address == url
                assert (await client.command("/v1/toy/count", {"name": "a"})).json()["total"] == total
                view = await client.query("/v1/views/counts/a", {"limit": 5}, at_least={"toy": total})
                assert view.json()["total"] == total


async def test_a_huge_body_over_the_wire_is_refused() -> None:
    port = free_port()
    async with (
        toy_edge(public_url=f"http://{HOST}:{port}", clock=now_ms) as edge,
        serving(edge.app, HOST, port) as address,
        httpx.AsyncClient() as client,
    ):
        headers = {"content-type": "application/json"}
        response = await client.post(f"{address}/v1/toy/many", content=b"[" * 5_000_000, headers=headers)
        assert response.status_code == 413
        again = await client.post(f"{address}/v1/toy/many", content=b"[]", headers=headers)
        assert again.status_code == 401, "the server goes on"


async def test_a_request_in_progress_ends_before_the_server_does() -> None:
    port = free_port()
    store = AwayStore("toy")
    url = f"http://{HOST}:{port}"
    async with toy_edge(store=store, public_url=url, clock=now_ms) as edge, client_of(edge, url) as client:
        async with serving(edge.app, HOST, port), store.session():
            asking = asyncio.create_task(client.command("/v1/toy/count", {"name": "a"}))
            await asyncio.sleep(0.3)
            assert not asking.done()
        assert (await asking).status_code == 200


async def test_the_client_comes_back_when_the_server_does() -> None:
    port = free_port()
    url = f"http://{HOST}:{port}"
    async with toy_edge(public_url=url, clock=now_ms) as edge, client_of(edge, url) as client:
        asking = asyncio.create_task(client.command("/v1/toy/count", {"name": "a"}))
        await asyncio.sleep(0.3)
        async with serving(edge.app, HOST, port):
            assert (await asking).json()["total"] == 1


async def test_a_client_whose_patience_ends_says_that_nobody_answered() -> None:
    async with toy_edge() as edge:
        url = f"http://{HOST}:{free_port()}"
        async with SignedClient(url, edge.keys.member, patience_seconds=0.3) as client:
            with pytest.raises(httpx.ConnectError):
                await client.command("/v1/toy/count", {"name": "a"})


async def hear(url: str, sent: bytes, seconds: float = 5) -> bytes:
    """Send bytes as they are and return what comes until the server closes, empty when it closes at once."""
    reading, writing = await asyncio.open_connection(HOST, int(url.rpartition(":")[2]))
    try:
        writing.write(sent)
        async with asyncio.timeout(seconds):
            return await reading.read()
    except ConnectionError:
        return b""
    finally:
        writing.close()


@pytest.mark.parametrize("junk", [b"X: " + b"a" * 4_000_000, b"X: y\r\n" * 1_000_000])
async def test_a_head_without_end_is_refused_before_it_fills_the_memory(junk: bytes) -> None:
    async with toy_edge() as edge, serving(edge.app, HOST, 0) as address:
        await hear(address, b"GET / HTTP/1.1\r\nHost: x\r\n" + junk)  # ends: the connection was closed
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"{address}/health/live")).status_code == 200


async def test_trailers_without_end_are_refused() -> None:
    head = b"POST /v1/toy/count HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with toy_edge() as edge, serving(edge.app, HOST, 0) as address:
        await hear(address, head + b"1\r\n{\r\n0\r\n" + b"X: y\r\n" * 1_000_000)


async def test_a_head_that_does_not_come_costs_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    async with toy_edge() as edge, serving(edge.app, HOST, 0) as address:
        assert await hear(address, b"") == b""
        assert await hear(address, b"GET / HTTP/1.1\r\nHost:") == b""
        async with httpx.AsyncClient() as client:
            for _ in range(3):
                assert (await client.get(f"{address}/health/live")).status_code == 200
                await asyncio.sleep(0.4)  # a connection that rests between requests is another matter


async def test_a_body_that_does_not_come_is_answered_408() -> None:
    head = b"POST /v1/toy/count HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n"
    async with toy_edge(body_seconds=0.3) as edge, serving(edge.app, HOST, 0) as address:
        heard = await hear(address, head + b"Connection: close\r\n\r\n{")
    assert heard.startswith(b"HTTP/1.1 408")
    assert b"urn:commons:problem:too-slow" in heard


@pytest.mark.parametrize("host", ["192.0.2.1", "nosuch.invalid"])
def test_an_address_that_is_not_of_this_machine_says_what_to_set(host: str) -> None:
    with pytest.raises(AddressRefused, match=f"{host}:8700.*COMMONS_LISTEN"):
        bind(host, 8_700)
