"""A small server for tests of the agent: it takes heartbeats, hours and batches as the real one does, and can be away.

It stands in where a test needs the server's clock wrong, an outage of hours in a moment, or an answer that got lost.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from events.spool import spool_hash
from infra.agent.link import Clock
from services.kernel.jws import parse_jws
from services.metering.batches import read_batch, spool_lines

HOUR_MS = 3_600_000


@dataclass
class AgentServer:
    """What it was told. `away`: 503 to all; `lose_answers`: records and answers nothing; `ahead_ms`: its clock.

    `instead` is a status and a text that something between answers to everything.
    """

    clock: Clock
    node: str
    public_key: bytes
    leases: list[dict[str, Any]] = field(default_factory=list)
    minutes: dict[int, str] = field(default_factory=dict)
    hours: dict[int, dict[str, Any]] = field(default_factory=dict)
    batches: dict[str, str] = field(default_factory=dict)
    in_time: list[tuple[str, str, int, int, int]] = field(default_factory=list)
    proved: dict[int, list[bytes]] = field(default_factory=dict)
    parts: dict[int, dict[int, list[bytes]]] = field(default_factory=dict)
    duplicates: int = 0
    away: bool = False
    lose_answers: int = 0
    ahead_ms: int = 0
    instead: tuple[int, str] | None = None

    def __post_init__(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._answer(200, {"items": outer.leases, "next": None})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if outer.away or outer.instead:
                    return self._answer(503, {})
                status, answer = outer.take(self.path, body)
                if outer.lose_answers:
                    outer.lose_answers -= 1
                    self.close_connection = True
                    self.connection.close()
                    return None
                return self._answer(status, answer)

            def _answer(self, status: int, answer: Any) -> None:
                status = 503 if outer.away else status
                raw = json.dumps(answer).encode()
                if outer.instead is not None:
                    status, raw = outer.instead[0], outer.instead[1].encode()
                self.send_response_only(status)
                self.send_header("date", formatdate((outer.clock.now_ms() + outer.ahead_ms) / 1_000, usegmt=True))
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(raw)))
                self._headers_buffer.append(b"\r\n" + raw)  # one packet: no waiting for an acknowledgement
                self.flush_headers()

            def log_message(self, *_: Any) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def take(self, path: str, body: Any) -> tuple[int, Any]:
        if path.endswith("/heartbeats"):
            self.minutes.setdefault(body["minute"], body["spool_sha256"])
            return 200, {"receipt": "a.b.c"}
        if path.endswith("/heartbeat-hours"):
            jws = parse_jws(body["jws"])
            jws.verify(self.public_key)
            payload = json.loads(jws.payload)
            over = (payload["hour"] + 1) * HOUR_MS
            if not over <= self.clock.now_ms() < over + HOUR_MS:
                return 409, {"type": "urn:commons:problem:heartbeat-hour-out-of-time", "detail": "too late"}
            self.hours.setdefault(payload["hour"], payload)
            return 200, {}
        return 200, [self.batch(jws) for jws in body]

    def batch(self, text: str) -> dict[str, Any]:
        parse_jws(text).verify(self.public_key)
        batch = read_batch(text)
        assert batch.node == self.node
        assert not batch.malformed
        hit, self.batches[batch.batch] = batch.batch in self.batches, text
        self.duplicates += hit
        lines = list(spool_lines(text))
        if batch.late_of is not None:
            known = self.hours.get(batch.late_of.hour)
            if known is None or known["spool_sha256"] != batch.late_of.spool_sha256:
                return {"status": "rejected", "code": "spool-part-unproved", "detail": "no such hash"}
            parts = self.parts.setdefault(batch.late_of.hour, {})
            parts[batch.late_of.part] = lines
            whole = [line for part in sorted(parts) for line in parts[part]]
            if spool_hash(self.node, batch.late_of.hour, whole).hex() == batch.late_of.spool_sha256:
                self.proved[batch.late_of.hour] = whole
            return {"status": "accepted", "rejected": {}, "late": [], "conflicts": []}
        readings = [tuple(json.loads(line)) for line in lines]
        late = [i for i, reading in enumerate(readings) if reading[3] < self.clock.now_ms() - HOUR_MS]
        if not hit:
            self.in_time += [reading for i, reading in enumerate(readings) if i not in late]  # type: ignore[misc]
        return {"status": "duplicate" if hit else "accepted", "rejected": {}, "late": late, "conflicts": []}

    def counted(self) -> list[tuple[str, str, int, int, int]]:
        """Every reading that counts, in order of time: those in time and those a proved hour brought."""
        late = [tuple(json.loads(line)) for lines in self.proved.values() for line in lines]
        return sorted({*self.in_time, *late}, key=lambda reading: reading[2])  # type: ignore[arg-type]
