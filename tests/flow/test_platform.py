"""One process's roles: how they end, and that nobody has to wait for a start that does not come."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from infra.local import processes
from infra.platform import Platform, open_platform, run_roles
from infra.settings import read_settings
from services.kernel.errors import PermissionDenied, Refusal
from services.kernel.group import Request
from services.treasury.commands import OpenAccount
from tests.instance import free_port


async def test_requests_in_progress_at_the_stop_are_still_decided(database: str, tmp_path: Path) -> None:
    answers: list[str] = []
    stop = asyncio.Event()

    async def edge(platform: Platform, stop: asyncio.Event) -> None:
        await stop.wait()
        await asyncio.sleep(0.2)
        with pytest.raises((Refusal, PermissionDenied)) as refused:
            await platform.appenders["treasury"].submit(Request(OpenAccount("a"), "member/nobody", "1", b""))
        answers.append(refused.value.slug)

    settings = read_settings({"COMMONS_HOME": str(tmp_path), "COMMONS_DATABASE": database})
    async with asyncio.timeout(20), open_platform(settings, database) as platform:
        asyncio.get_running_loop().call_later(0.2, stop.set)
        await run_roles(platform, ["http"], stop, edge)
    assert len(answers) == 1


async def test_a_stop_before_anything_is_ready_is_heeded(tmp_path: Path) -> None:
    nowhere = f"postgresql://commons@127.0.0.1:{free_port()}/commons"
    listen = f"127.0.0.1:{free_port()}"
    settings = read_settings({"COMMONS_HOME": str(tmp_path), "COMMONS_DATABASE": nowhere, "COMMONS_LISTEN": listen})
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(1.0, stop.set)
    async with asyncio.timeout(20), processes(settings, (("http",),), lambda _line: None, stop=stop) as running:
        assert stop.is_set()
        assert not running.done()
