"""What an operator's tools ask of every process: whether it lives, whether it is ready, and its numbers.

A process with the role `http` answers on its port beside everything else; any other one has a small server for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from infra.http.answers import json_answer, problem_answer
from infra.http.commands import Endpoint
from services.kernel.problems import plain_problem

LIVE_PATH: Final = "/health/live"
READY_PATH: Final = "/health/ready"
METRICS_PATH: Final = "/metrics"
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

Names = Callable[[], Awaitable[Sequence[str]]]


def health_endpoints(
    missing: Names, warnings: Names, metrics: Callable[[], Awaitable[bytes]] | None
) -> list[tuple[str, Endpoint]]:
    """Return path and endpoint of each question; all are GET and open to whoever reaches the port.

    `missing` names what is not ready, `warnings` what somebody must look at although everything is served.
    """

    async def live(_request: Request) -> Response:
        return json_answer({"status": "live"})

    async def ready(_request: Request) -> Response:
        names = list(await missing())
        if not names:
            told = list(await warnings())
            return json_answer({"status": "ready"} | ({"warnings": told} if told else {}))
        found = plain_problem(503, "not-ready", "Not ready", "; ".join(names))
        return problem_answer(found, {"Retry-After": "1"})

    endpoints: list[tuple[str, Endpoint]] = [(LIVE_PATH, live), (READY_PATH, ready)]
    if metrics is not None:
        endpoints.append((METRICS_PATH, _metrics(metrics)))
    return endpoints


def health_app(missing: Names, warnings: Names, metrics: Callable[[], Awaitable[bytes]]) -> Starlette:
    """Return the application of a process without the role `http`."""
    return Starlette(routes=[Route(path, endpoint) for path, endpoint in health_endpoints(missing, warnings, metrics)])


def _metrics(text: Callable[[], Awaitable[bytes]]) -> Endpoint:
    async def metrics(_request: Request) -> Response:
        return Response(await text(), headers={"content-type": METRICS_TYPE})

    return metrics
