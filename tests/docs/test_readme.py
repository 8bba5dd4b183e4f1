"""What the README tells people to type works: its blocks marked `<!-- test -->` run here, in order, on an instance."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.error import URLError

import pytest

from infra.background import Place, down, up
from tests.source import ROOT, Module

BLOCK = re.compile(r"^<!-- test -->\n```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUOTE = re.compile(r"^<!-- from: (\S+) -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ADDRESS = "127.0.0.1:8700"
BIN = Path(sys.executable).parent


@pytest.fixture
def environment(tmp_path: Path, database: str) -> dict[str, str]:
    """Settings of an instance of this test's own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COMMONS_")}
    ours = {"COMMONS_HOME": str(tmp_path / "home"), "COMMONS_LISTEN": f"127.0.0.1:{port}", "COMMONS_DATABASE": database}
    return kept | ours | {"PYTHONPATH": str(ROOT)}


@pytest.fixture
def instance(environment: Mapping[str, str]) -> Iterator[str]:
    """The address of a running instance."""
    address, place = environment["COMMONS_LISTEN"], Place(Path(environment["COMMONS_HOME"]))
    command = ["/usr/bin/env", *(f"{name}={environment[name]}" for name in environment if name.startswith("COMMONS_"))]
    try:
        up(place, lambda: answers(address, "/health/ready"), [*command, sys.executable, "-m", "infra.cli", "up"], 60.0)
        wait_for(address, "/v1/views/audit_trail")
        yield address
    finally:
        down(place)


def answers(address: str, path: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{address}{path}", timeout=5):
            return True
    except (URLError, TimeoutError, ConnectionError):
        return False


def wait_for(address: str, path: str) -> None:
    deadline = time.monotonic() + 30
    while not answers(address, path):
        assert time.monotonic() < deadline, f"{path} does not answer"
        time.sleep(0.1)


def script(language: str, text: str, folder: Path, address: str) -> list[str]:
    """Return the command that runs a block as a reader would, at this instance's address."""
    text = text.replace(ADDRESS, address).replace(".venv/bin/", f"{BIN}/")
    path = folder / f"block.{language}"
    path.write_text(text)
    return ["bash", "-euo", "pipefail", str(path)] if language == "bash" else [sys.executable, str(path)]


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README uses curl")
def test_the_story_of_the_readme_can_be_told(instance: str, environment: Mapping[str, str], tmp_path: Path) -> None:
    told = []
    for language, text in BLOCK.findall(README):
        command = script(language, text, tmp_path, instance)
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        told.append(done.stdout)
        wait_for(instance, "/v1/views/audit_trail/registry/1")
    assert len(told) == 3
    assert re.search(r"placed on node/[0-9a-f]{32}\naccepted\nduplicate\n", told[1])
    assert '"model":"L40S"' in told[2]
    assert "metering.readings-recorded.v1" in told[2]


def test_every_make_target_and_command_the_documents_name_exists() -> None:
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    text = "".join(path.read_text(encoding="utf-8") for path in documents)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"(?:^|`)make ([a-z]+)", text, re.MULTILINE))
    assert {"run", "test", "check", "up", "down"} <= targets
    assert [name for name in targets if not re.search(rf"^{name}:", makefile, re.MULTILINE)] == []
    listed = subprocess.run([sys.executable, "-m", "infra.cli", "--help"], capture_output=True, text=True, check=True)
    planned = {"verify", "backup", "restore"}
    commands = set(re.findall(r"`(?:\.venv/bin/)?commons ([a-z]+)", text)) - planned
    assert {"up", "doctor", "rebuild", "lag"} <= commands
    assert [name for name in commands if not re.search(rf"\b{name}\b", listed.stdout)] == []


def test_the_examples_of_contributing_stand_in_the_files_they_name() -> None:
    quotes = QUOTE.findall(CONTRIBUTING)
    assert len(quotes) >= 4
    for where, quote in quotes:
        source = Module(ROOT / where).text
        for part in re.split(r"\n{3,}", quote.strip()):
            assert part in source, f"{where} no longer holds:\n{part}"
