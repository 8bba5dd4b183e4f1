"""The background process: started once, waited for, stopped by its own pid and never a stranger's."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest

from infra.background import Place, down, main, up

SERVES = (sys.executable, "-c", "import time; print('serving', flush=True); time.sleep(60)")
FAILS = (sys.executable, "-c", "print('the port is taken'); raise SystemExit(1)")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path / "home")
    yield made
    down(made)


def serving(place: Place) -> bool:
    return place.log_file.exists() and "serving" in place.log_file.read_text()


def test_up_waits_until_it_is_ready_and_down_stops_it(place: Place) -> None:
    told = up(place, lambda: serving(place), SERVES)
    process = place.running()
    assert process is not None
    assert str(process.pid) in told
    assert down(place) == f"stopped (pid {process.pid})"
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    assert not place.pid_file.exists()


def test_up_twice_starts_one_process(place: Place) -> None:
    assert up(place, lambda: serving(place), SERVES) == up(place, lambda: serving(place), SERVES)


def test_a_process_that_ends_before_it_is_ready_is_reported_with_its_last_words(place: Place) -> None:
    with pytest.raises(RuntimeError, match="the port is taken"):
        up(place, lambda: False, FAILS)


def test_a_process_that_is_never_ready_is_reported(place: Place) -> None:
    with pytest.raises(RuntimeError, match="not ready after"):
        up(place, lambda: False, SERVES, seconds=0.5)


def test_a_stale_pid_file_never_stops_a_stranger(place: Place) -> None:
    with subprocess.Popen(SERVES, stdout=subprocess.DEVNULL) as stranger:
        try:
            place.pid_file.parent.mkdir(parents=True)
            place.pid_file.write_text(json.dumps([stranger.pid, 1.0]))
            assert down(place) == "nothing was running"
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_marks_are_private(place: Place) -> None:
    up(place, lambda: serving(place), SERVES)
    for path in (place.home, place.pid_file.parent, place.log_file.parent):
        assert path.stat().st_mode & 0o777 == 0o700
    assert place.log_file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("answer", "status"), [(200, 0), (503, 1)])
def test_the_health_check_of_a_container_says_what_the_readiness_route_says(
    answer: int, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Edge(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer if self.path == "/health/ready" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stay quiet."""

    with HTTPServer(("127.0.0.1", 0), Edge) as edge:
        threading.Thread(target=edge.handle_request, daemon=True).start()
        monkeypatch.setenv("COMMONS_LISTEN", f"0.0.0.0:{edge.server_port}")
        assert main(["ready"]) == status
    assert main(["ready"]) == 1
