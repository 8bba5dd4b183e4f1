"""How a command finds what another one has started on this machine."""

from __future__ import annotations

import asyncio

import pytest

from infra.local import ready


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    writer.close()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "SSL_CERT_FILE"])
async def test_this_machine_is_asked_directly_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "/nowhere" if name == "SSL_CERT_FILE" else "http://127.0.0.1:9")
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        assert await ready(f"http://{host}:{port}")
    assert not await ready(f"http://{host}:{port}")
