from __future__ import annotations

import io
import json
import logging
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from infra import logs
from infra.agent.settings import read_agent_settings
from infra.http.request_log import RequestLog
from infra.logs import noted, start_logging, struck
from infra.settings import Settings, read_settings


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Give the process its own handlers back."""
    root, said = logging.getLogger(), logging.getLogger(logs.SAID)
    kept = (root.handlers, root.level, said.handlers)
    yield
    for handler in root.handlers:
        if handler not in kept[0]:
            handler.close()
    root.handlers, said.handlers = kept[0], kept[2]
    root.setLevel(kept[1])


def settings(home: Path, **extra: str) -> Settings:
    return read_settings({"COMMONS_HOME": str(home)} | {f"COMMONS_LOG_{name}": value for name, value in extra.items()})


def lines(home: Path, process: str = "http") -> list[dict[str, object]]:
    return [json.loads(line) for line in (home / "log" / f"{process}.jsonl").read_text().splitlines()]


def test_a_line_of_the_file_is_an_object_with_an_empty_trace_id(tmp_path: Path) -> None:
    start_logging(settings(tmp_path), "http")
    logging.getLogger("somewhere").warning("the database is %s", "away")
    (line,) = lines(tmp_path)
    assert line["message"] == "the database is away"
    assert (line["level"], line["process"], line["logger"], line["trace_id"]) == ("warning", "http", "somewhere", "")
    assert str(line["time"]).endswith("Z")


@pytest.mark.parametrize(("form", "begin"), [("json", '{"'), ("text", "20"), ("auto", '{"')])
def test_stderr_speaks_the_form_the_settings_ask_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, begin: str
) -> None:
    heard = io.StringIO()
    monkeypatch.setattr(sys, "stderr", heard)
    start_logging(settings(tmp_path, FORMAT=form), "http")
    logging.getLogger("somewhere").warning("hello")
    assert heard.getvalue().startswith(begin)


def test_files_are_private_and_closed_at_their_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 2_000)
    monkeypatch.setattr(logs, "FILES", 2)
    start_logging(settings(tmp_path / "home"), "http")
    for _ in range(100):
        logging.getLogger("somewhere").warning("x" * 100)
    files = sorted((tmp_path / "home" / "log").iterdir())
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
    assert [path.name for path in files] == ["http.jsonl", "http.jsonl.1", "http.jsonl.2"]
    assert all(path.stat().st_size <= 2_000 for path in files)
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


@pytest.mark.parametrize(
    "text",
    [
        "cannot reach postgresql://me:hunter2@db/commons",
        "cannot reach postgresql://me@db/commons?password=hunter2&x=1",
        "cannot reach postgresql://me:an@hunter2@db/commons",
        "cannot reach postgresql://me@db/commons?x=1&sslpassword=hunter2",
        "Authorization: hunter2",
        "sent Bearer hunter2",
    ],
)
def test_what_looks_like_a_secret_is_struck_out(tmp_path: Path, text: str) -> None:
    start_logging(settings(tmp_path), "http")
    logging.getLogger("somewhere").error("%s", text, exc_info=ValueError(text))
    assert "hunter2" not in (tmp_path / "log" / "http.jsonl").read_text()
    assert "***" in struck(text)


def test_what_is_said_to_people_stands_in_the_file_whatever_the_level(tmp_path: Path) -> None:
    start_logging(settings(tmp_path, LEVEL="error"), "supervisor")
    heard: list[str] = []
    noted(heard.append)("the process for http ended")
    assert heard == ["the process for http ended"]
    assert [line["message"] for line in lines(tmp_path, "supervisor")] == heard


def test_an_agent_logs_in_its_own_home_as_an_instance_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 300)
    given = read_agent_settings({"COMMONS_AGENT_HOME": str(tmp_path), "COMMONS_LOG_FORMAT": "json"})
    start_logging(given, "agent")
    for number in range(20):
        noted(lambda _text: None)(f"agent: the server is away, for the {number}. time")
    (line,) = lines(tmp_path, "agent")
    assert (line["process"], line["logger"]) == ("agent", logs.SAID)
    closed = sorted(path.name for path in (tmp_path / "log").iterdir())
    assert closed == ["agent.jsonl", *(f"agent.jsonl.{number}" for number in range(1, logs.FILES + 1))]


def test_a_home_that_cannot_be_written_does_not_stop_the_work(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file is in the way")
    start_logging(settings(tmp_path), "http")
    logging.getLogger("somewhere").warning("still here")


@pytest.mark.parametrize(
    ("headers", "means"),
    [({}, "nobody"), ({"authorization": "Bearer secret"}, "bearer"), ({"signature-input": "x"}, "signature")],
)
async def test_a_request_is_one_line_without_query_and_headers(
    tmp_path: Path, headers: dict[str, str], means: str
) -> None:
    async def answer(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("no", status_code=418)

    start_logging(settings(tmp_path, LEVEL="info"), "http")
    app = Starlette(routes=[Route("/v1/tea", answer)])
    app.add_middleware(RequestLog)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        await client.get("/v1/tea?who=secret", headers=headers)
    line = next(line for line in lines(tmp_path) if line["logger"] == "infra.http.request_log")
    assert (line["method"], line["path"], line["status"], line["actor"]) == ("GET", "/v1/tea", 418, means)
    assert isinstance(line["ms"], int)
    assert "secret" not in json.dumps(line)
