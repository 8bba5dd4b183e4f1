"""Default deny: every route names a permission, and every permission belongs to somebody."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from fastapi import FastAPI

from infra.http.edge import INDEX_PATH, KEYS_PATH, LIVE_PATH, OPENAPI_PATH, READY_PATH, build_app, permissions
from infra.http.nonces import MemoryNonces
from infra.http.parts import Parts, Settings, make_parts
from infra.http.sessions import NONCES_PATH, SESSIONS_PATH
from infra.subject_keys import MemorySubjectKeys
from projections.catalog import routes as view_routes
from projections.queries import ViewReader
from projections.routes import QueryRoute
from services.kernel.appender import Appender
from services.kernel.directory import Directory
from services.kernel.roles import ROLES, permits
from services.metering.api import routes as metering_routes
from services.metering.dispute_api import dispute_routes
from services.registry.api import routes as registry_routes
from services.registry.profile_api import profile_routes
from services.treasury.api import routes as treasury_routes
from tests.toy_edge import PUBLIC_URL, NameParams, ToyEdge, command_routes, toy_edge

OPEN = {("GET", INDEX_PATH), ("GET", KEYS_PATH), ("GET", LIVE_PATH), ("GET", READY_PATH), ("GET", OPENAPI_PATH)}
OPEN |= {("POST", NONCES_PATH), ("POST", SESSIONS_PATH)}  # whoever signs in is not known yet
"""The only routes that anyone may call without asking for anything."""


async def nothing() -> Sequence[str]:
    return []


def parts_of(edge: ToyEdge, appenders: Mapping[str, Appender[Any]]) -> Parts:
    return make_parts(
        Settings(PUBLIC_URL),
        appenders=appenders,
        feed=edge.feed,
        acknowledger=edge.acks,
        nonces=MemoryNonces(edge.clock),
        now_ms=edge.clock,
        ready=nothing,
    )


def judge(app: FastAPI) -> None:
    """Fail on a route without a permission, on an unknown one, and on one that is public without being listed here."""
    found = permissions(app)
    assert found
    for route, permission in found.items():
        assert permission in ROLES, f"{route} names no permission that somebody has"
        assert permission != "public" or route in OPEN, f"{route} is open to the world"


async def answers_nobody(edge: ToyEdge) -> None:
    """Fail when a command route answers anyone who did not sign."""
    async with edge.plain() as client:
        for (method, path), permission in permissions(edge.app).items():
            if permission in {"public", "views.read"}:
                continue
            target = re.sub(r"\{[^}]*\}", "x", path)
            response = await client.request(method, target, json={})
            assert response.status_code == 401, (method, path, response.text)


async def test_every_route_of_the_toy_names_a_permission_and_answers_nobody_else() -> None:
    async with toy_edge() as edge:
        judge(edge.app)
        await answers_nobody(edge)
        assert len(permissions(edge.app)) == len(command_routes()) + 1 + len(OPEN)


async def test_every_route_of_the_platform_names_a_permission() -> None:
    services = {
        "registry": (*registry_routes(), *profile_routes(MemorySubjectKeys(), bytes)),
        "metering": (*metering_routes(), *dispute_routes()),
        "treasury": treasury_routes(),
    }
    async with toy_edge() as edge:
        reader = ViewReader(None)  # type: ignore[arg-type] # nothing is asked here
        queries = view_routes(reader, None, None)  # type: ignore[arg-type] # nothing is asked here
        app = build_app(parts_of(edge, dict.fromkeys(services, edge.appender)), services, queries)
    judge(app)
    assert len(permissions(app)) == sum(map(len, services.values())) + len(queries) + len(OPEN)
    operations = [operation for path in app.openapi()["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert {operation["x-permission"] for operation in operations} <= set(ROLES)


async def test_the_judge_sees_a_route_somebody_forgot() -> None:
    async with toy_edge() as edge:

        async def forgotten() -> None:
            """Named by no permission."""

        edge.app.add_api_route("/v1/forgotten", forgotten)
        with pytest.raises(AssertionError, match="forgotten"):
            judge(edge.app)


async def test_a_route_with_a_permission_nobody_listed_does_not_start() -> None:
    async with toy_edge() as edge:
        query = QueryRoute("x", "/v1/views/x", "views.raed", NameParams, nothing)  # type: ignore[arg-type]
        with pytest.raises(AssertionError, match=r"views\.raed"):
            build_app(parts_of(edge, {}), {}, [query])


def test_what_is_listed_nowhere_is_nobodys() -> None:
    assert not permits(Directory(), "member/1", "no.such")  # type: ignore[arg-type]
