"""One command is one trace: from the request through its commit to every policy and view, with the SQL between."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from events.telemetry import read_traceparent
from infra.logs import JsonLines
from infra.platform import open_platform
from infra.settings import read_settings
from tests.instance import free_port
from tests.traced import PATH, TRACE, traced

WITHOUT = """
import asyncio, sys
from infra.founding import found
from infra.platform import open_platform, run_roles
from infra.settings import read_settings
from tests.registry_world import community

async def main(roles):
    settings, stop, serve = read_settings(), asyncio.Event(), None
    if "http" in roles:
        from infra.serving import serve_http as serve
    async with open_platform(settings, settings.database) as platform:
        await found(platform, community())
        asyncio.get_running_loop().call_later(1.0, stop.set)
        await run_roles(platform, roles, stop, serve)

asyncio.run(main(sys.argv[2:]))
print([name for name in sys.modules if name.startswith(tuple(sys.argv[1].split(",")))])
"""
"""Founds a community, serves some roles for a second and names what was loaded of some libraries."""

LIBRARIES = "opentelemetry.sdk,opentelemetry.exporter,opentelemetry.proto,prometheus_client,grpc,google.protobuf"


async def test_one_command_is_one_trace_from_the_request_to_every_policy_and_view(
    database: str, tmp_path: Path
) -> None:
    async with traced(database, tmp_path) as world:
        answer = await world.register("ada")
        assert answer.status_code == 200, answer.text
        await world.caught_up()
        spans = world.spans()
        names = {span.name for span in spans}
        services = {"registry", "treasury"}  # a member is registered, and a policy opens the member's account
        views = {f"view {view.name}" for view in world.platform.views if services & {*view.services}}
        assert len(views) > 4
        assert {f"POST {PATH}", "append", "commit", "policy/treasury.open-accounts", *views} <= names
        assert {"sql COPY", "sql INSERT", "sql SELECT"} <= names
        parents = {span.context.span_id: span for span in spans}
        roots = [span.name for span in spans if span.parent is None or span.parent.span_id not in parents]
        assert roots == [f"POST {PATH}"], "everything hangs together, below the caller's own span"
        (balances,) = [span for span in spans if span.name == "view balances" and span.attributes["facts"]][:1]
        way = [balances.name]
        while balances.parent is not None and balances.parent.span_id in parents:
            balances = parents[balances.parent.span_id]
            way.append(balances.name)
        assert way[-2:] == ["append", f"POST {PATH}"]


async def test_commands_of_one_group_keep_their_own_traces(database: str, tmp_path: Path) -> None:
    async with traced(database, tmp_path) as world:
        callers = [f"00-{number:032x}-{number:016x}-01" for number in (1, 2, 3)]
        answers = await asyncio.gather(*(world.register(f"m{each[34]}{each[-4]}", each) for each in callers))
        assert {answer.status_code for answer in answers} <= {200, 409}
        await world.caught_up()
        for number in (1, 2, 3):
            names = {span.name for span in world.spans(f"{number:032x}")}
            assert {f"POST {PATH}", "append", "commit"} <= names, names


async def test_a_refusal_shows_in_its_span_and_no_text_of_it_does(database: str, tmp_path: Path) -> None:
    async with traced(database, tmp_path) as world:
        assert (await world.register("ada")).status_code == 200
        await world.caught_up()
        world.exporter.clear()
        raw, headers = await world.registration("ada")
        assert (await world.send(raw, headers)).status_code == 409
        (append,) = [span for span in world.spans() if span.name == "append"]
        assert append.status.description
        assert append.status.description.isidentifier()
        assert not append.events
        assert "ada" not in "".join(span.to_json() for span in world.spans())


async def test_a_line_written_in_a_request_carries_its_trace(database: str, tmp_path: Path) -> None:
    heard, log = io.StringIO(), logging.getLogger("infra.http.request_log")
    handler = logging.StreamHandler(heard)
    handler.setFormatter(JsonLines("test"))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        async with traced(database, tmp_path) as world:
            await world.register("ada")
            (request,) = [span for span in world.spans() if span.name == f"POST {PATH}"]
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    line = json.loads(heard.getvalue().splitlines()[0])
    assert (line["trace_id"], line["span_id"]) == (TRACE, f"{request.context.span_id:016x}")


@pytest.mark.parametrize(
    ("libraries", "roles"),
    [
        (f"opentelemetry,{LIBRARIES}", ("follow", "clock")),
        (LIBRARIES, ("http", "follow", "clock")),  # the web framework itself loads the interfaces, and we switch it off
    ],
)
def test_telemetry_that_is_off_loads_nothing(
    database: str, tmp_path: Path, libraries: str, roles: tuple[str, ...]
) -> None:
    environ = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "COMMONS_HOME": str(tmp_path),
        "COMMONS_DATABASE": database,
        "COMMONS_LISTEN": f"127.0.0.1:{free_port()}",
    }
    command = [sys.executable, "-c", WITHOUT, libraries, *roles]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


async def test_a_collector_that_is_away_costs_spans_and_nothing_else(database: str, tmp_path: Path) -> None:
    named = {"COMMONS_HOME": str(tmp_path), "COMMONS_DATABASE": database}
    settings = read_settings(named | {"COMMONS_TELEMETRY": f"otlp://127.0.0.1:{free_port()}"})
    async with asyncio.timeout(15):
        async with open_platform(settings, database) as platform:
            with platform.telemetry.tracer.span("alone") as stated:
                assert read_traceparent(stated) == stated
                await platform.stores["registry"].head()


@pytest.mark.parametrize(
    "stated", ["", "00-0-0-01", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "zz" + "-" + "1" * 32 + "-" + "1" * 16]
)
def test_what_is_no_traceparent_is_not_continued(stated: str) -> None:
    assert read_traceparent(stated) == ""
