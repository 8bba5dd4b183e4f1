"""A trace goes through processes: the request in one, the views in another, all of it at one collector."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
from msgspec import to_builtins
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services

from infra.http.authorizations import authorize
from infra.http.client import RequestSigner
from services.registry.genesis import sha256
from tests.instance import free_port, instance
from tests.registry_world import key
from tests.traced import CALLER, PATH, TRACE


@dataclass
class Collector(services.TraceServiceServicer):
    """A collector as small as can be: it keeps (process id, name) of the spans of one trace."""

    spans: set[tuple[int, str]] = field(default_factory=set)

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's name
        for resource in request.resource_spans:
            pid = next(each.value.int_value for each in resource.resource.attributes if each.key == "process.pid")
            for scope in resource.scope_spans:
                self.spans |= {(pid, span.name) for span in scope.spans if span.trace_id.hex() == TRACE}
        return messages.ExportTraceServiceResponse()

    def names(self) -> set[str]:
        return {name for _, name in self.spans}

    def pids(self, name: str) -> set[int]:
        return {pid for pid, found in self.spans if found == name}


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    server, collector = grpc.server(ThreadPoolExecutor(2)), Collector()
    services.add_TraceServiceServicer_to_server(collector, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield collector, f"otlp://127.0.0.1:{port}"
    finally:
        server.stop(None)


def test_one_trace_goes_through_the_processes_of_an_instance(tmp_path: Path) -> None:
    metrics = f"127.0.0.1:{free_port()}"
    with collecting() as (collector, address):
        extra = {"COMMONS_METRICS_LISTEN": metrics, "OTEL_BSP_SCHEDULE_DELAY": "100"}
        with instance(tmp_path / "home", COMMONS_TELEMETRY=address, **extra) as serving:
            genesis = sha256(serving.found())
            steward = serving.key("steward")
            signer = RequestSigner(steward.private)
            body = {"handle": "ada", "kind": "human", "key": to_builtins(key("ada"))}
            signed = httpx.Request(
                "POST", serving.url, json=authorize(signer.private, signer.kid, genesis, "RegisterMember", body)
            )
            headers = signer.headers("POST", serving.url + PATH, signed.content) | {"traceparent": CALLER}
            answer = httpx.post(serving.url + PATH, content=signed.content, headers=headers, trust_env=False)
            assert answer.status_code == 200, answer.text
            wanted = {f"POST {PATH}", "commit", "policy/treasury.open-accounts", "view members", "view balances"}
            deadline = time.monotonic() + 20
            while not wanted <= collector.names() and time.monotonic() < deadline:
                time.sleep(0.1)
            for url in (serving.url, f"http://{metrics}"):
                text = httpx.get(f"{url}/metrics", trust_env=False).text
                assert "commons_follower_lag_facts" in text
            assert "commons_view_facts_total" in text, "the numbers of the one that follows"
    assert wanted <= collector.names()
    request, view = (collector.pids(name) for name in (f"POST {PATH}", "view members"))
    assert len(request) == len(view) == 1
    assert request != view
