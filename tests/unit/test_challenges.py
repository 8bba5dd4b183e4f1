"""How a node's answer to a challenge comes to a steward's tool."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from infra.challenges import ChallengeRefused, Draw, by_command, by_file


def test_the_node_is_told_all_that_its_command_needs() -> None:
    drawn = Draw("l" * 32, "node/x", "r" * 64, "c" * 32, "5" * 64, 17)
    told = ("--challenge", "c" * 32, "--seed", "5" * 64, "--start-ms", "17", "--root", "r" * 64)
    assert drawn.arguments() == ("l" * 32, *told)


async def test_an_answer_may_come_by_a_file_that_appears(tmp_path: Path) -> None:
    path = tmp_path / "answer"
    waiting = asyncio.create_task(by_file(path)([]))
    await asyncio.sleep(0.05)
    path.write_text("half of it")
    await asyncio.sleep(0.25)
    assert not waiting.done()
    path.write_text("all of it\n")
    assert await asyncio.wait_for(waiting, 5) == "all of it\n"


async def test_a_command_that_prints_nothing_is_run_again(tmp_path: Path) -> None:
    script = "import pathlib,sys; p=pathlib.Path(sys.argv[1]); p.exists() and print('said', sys.argv[2]); p.touch()"
    ask = by_command([sys.executable, "-c", script, str(tmp_path / "second")])
    assert await asyncio.wait_for(ask(["answer"]), 15) == "answer"


async def test_a_command_that_is_not_there_is_the_steward_s_fault(tmp_path: Path) -> None:
    with pytest.raises(ChallengeRefused, match="cannot be run"):
        await by_command([str(tmp_path / "nowhere")])(["x"])
