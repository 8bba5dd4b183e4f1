"""The command line as people and programs meet it: as a process of its own, with its messages and exit statuses."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from infra.api import ApiRefused
from infra.genesis_file import demo_yaml
from infra.openb.trace import TraceRefused, read_trace
from infra.sample.generate import NODE_FILE, POD_FILE
from infra.settings import SettingRefused, read_settings
from tests import keeper as answers
from tests.instance import Instance, instance
from tests.keeper import Keeper, keep_and_lease

REFUSED = 1


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def refused(done: subprocess.CompletedProcess[str], *told: str) -> None:
    """The command ended with status 1, one clear message on stderr, no trace, and nothing on stdout."""
    assert done.returncode == REFUSED, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    for words in told:
        assert words in done.stderr, done.stderr


def one_object(done: subprocess.CompletedProcess[str]) -> Any:
    """The command ended well and printed exactly one JSON object on one line."""
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert isinstance(found, dict)
    return found


# --- without any instance


@pytest.fixture
def cold(tmp_path: Path) -> Instance:
    """A home where nothing was ever started."""
    return Instance(tmp_path / "home")


def genesis_text(*changes: str) -> str:
    """Return the shipped example with changes: old, new, old, new ..."""
    text = demo_yaml().decode()
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in text
        text = text.replace(old, new, 1)
    return text


def genesis_file(folder: Path, *changes: str) -> str:
    """Write the shipped example with changes to a file; return its path."""
    path = folder / "community.yaml"
    path.write_text(genesis_text(*changes))
    return str(path)


def test_shares_of_99_99_percent_are_refused_with_their_sum(cold: Instance, tmp_path: Path) -> None:
    done = cold.commons("genesis", genesis_file(tmp_path, "share_ppm: 99900", "share_ppm: 99800"))
    refused(done, "shares sum to 999900 ppm (99.9900 %)", "nothing was written")
    assert not (cold.home / "postgres").exists()


def test_everything_wrong_in_a_genesis_file_is_told_at_once(cold: Instance, tmp_path: Path) -> None:
    text = genesis_text("  close_after_seconds: 0", "  close_after_second: 0", '"5000000000"', "5e9")
    path = tmp_path / "community.yaml"
    path.write_text(text + "name: again\n")
    refused(
        cold.commons("genesis", str(path)),
        "name: stands twice",
        "epochs.close_after_second: unknown field; did you mean 'close_after_seconds'?",
        "projects[0].gpu_micro_rgpu_hours",
    )
    assert not (cold.home / "postgres").exists()


def test_a_genesis_file_that_is_missing_is_named_and_nothing_is_made(cold: Instance, tmp_path: Path) -> None:
    refused(cold.commons("genesis", str(tmp_path / "none.yaml")), "none.yaml: No such file or directory")
    assert not cold.home.exists()


def test_a_dry_run_shows_the_hash_and_writes_no_fact(cold: Instance, tmp_path: Path) -> None:
    shown = one_object(cold.commons("genesis", genesis_file(tmp_path), "--dry-run", "--json"))
    assert shown["valid"]
    assert len(shown["sha256"]) == 64
    assert not (cold.home / "postgres").exists()


def test_an_unknown_setting_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    given = Instance(tmp_path / "home", extra={"COMMONS_LISTNE": "127.0.0.1:1"})
    refused(given.commons("up"), "unknown setting COMMONS_LISTNE: did you mean COMMONS_LISTEN?")
    assert not given.home.exists()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("COMMONS_LISTEN", "nonsense", "must be host:port"),
        ("COMMONS_BUS", "kafka://host", "must be tail: or kafka://host:port"),
        ("COMMONS_DATABASE", "mysql://host", "must be embedded: or postgresql://"),
        ("COMMONS_DATABASE_FILE", "/nowhere", "cannot be read"),
    ],
)
def test_a_setting_that_cannot_be_used_is_refused(name: str, value: str, told: str) -> None:
    with pytest.raises(SettingRefused, match=told):
        read_settings({name: value})


def test_an_unknown_role_is_refused_with_the_known_ones(cold: Instance) -> None:
    refused(cold.commons("up", "folow"), "unknown role 'folow'", "there are http, follow, clock")


def test_slices_over_300_seconds_are_refused(cold: Instance) -> None:
    files = ("--nodes", str(NODE_FILE), "--pods", str(POD_FILE))
    done = cold.commons("import", "openb", *files, "--slice-seconds", "301")
    assert done.returncode == 2
    assert "300" in done.stderr
    assert not cold.home.exists()


@pytest.mark.parametrize(
    ("nodes", "told"),
    [
        pytest.param(None, "No such file or directory", id="missing"),
        pytest.param("sn,cpu_milli\nn1,1\n", "no column gpu, memory_mib, model", id="columns missing"),
        pytest.param(
            "sn,cpu_milli,memory_mib,gpu,model\nn1,x,1,1,T4\n", ":2: cpu_milli must be a whole", id="no number"
        ),
        pytest.param(
            "sn,cpu_milli,memory_mib,gpu,model\nn1,1,1,1,T4\nn1,1,1,1,T4\n", "a name stands twice", id="twice"
        ),
        pytest.param("sn,cpu_milli,memory_mib,gpu,model\nn1,1,1,1,\n", "needs their model", id="no model"),
    ],
)
def test_a_bad_trace_file_is_named_with_the_line(tmp_path: Path, nodes: str | None, told: str) -> None:
    path = tmp_path / "nodes.csv"
    if nodes is not None:
        path.write_text(nodes)
    with pytest.raises(TraceRefused) as error:
        read_trace(path, POD_FILE)
    assert str(error.value).startswith(str(path))
    assert told in str(error.value)


def test_an_import_of_a_bad_trace_makes_nothing(cold: Instance, tmp_path: Path) -> None:
    done = cold.commons("import", "openb", "--nodes", str(tmp_path / "none.csv"), "--pods", str(POD_FILE))
    refused(done, "none.csv: No such file or directory")
    assert not cold.home.exists()


def test_the_command_line_needs_no_development_dependency() -> None:
    """Who installs the package alone has neither the test tools nor the drivers of the benches' baselines."""
    missing = ("psycopg", "hypothesis", "pytest", "schemathesis", "eth_account", "jsonschema_rs")
    code = f"import sys; sys.modules.update(dict.fromkeys({missing!r})); import infra.cli.app"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_keys_and_schemas_are_one_json_object_each(cold: Instance) -> None:
    keys = one_object(cold.commons("keys", "--json"))
    assert [row["name"] for row in keys["keys"]][:2] == ["operator", "acknowledgements"]
    secrets = [path.read_text().strip() for path in (cold.home / "keys").iterdir()]
    assert not any(secret in json.dumps(keys) for secret in secrets)
    assert "registry.community-founded.v1" in one_object(cold.commons("schemas", "--json"))


# --- with one


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    """The demo community, founded and served by `commons up`."""
    with instance(tmp_path_factory.mktemp("command-line") / "home") as made:
        made.found()
        yield made


@pytest.mark.parametrize(("command", "key"), [("lag", "followers"), ("doctor", "checks"), ("rebuild", "views")])
def test_a_look_at_an_instance_is_one_json_object(running: Instance, command: str, key: str) -> None:
    assert one_object(running.commons(command, "--json"))[key]


def test_an_unknown_view_is_refused_with_the_known_ones(running: Instance) -> None:
    refused(running.commons("rebuild", "balance", "--json"), "there is no view 'balance'", "balances")


def test_a_taken_port_is_named_and_nothing_is_left_behind(running: Instance, tmp_path: Path) -> None:
    other = Instance(tmp_path / "home", port=running.port)
    refused(other.commons("up"), f"port {running.port} on 127.0.0.1 is taken", "COMMONS_LISTEN")
    assert belonging_to(other.home) == []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        single = Instance(tmp_path / "single", port=listener.getsockname()[1])
        refused(single.commons("up", "--single"), "is taken")
        assert belonging_to(single.home) == []


def test_an_import_into_another_community_is_refused(running: Instance) -> None:
    files = ("--nodes", str(NODE_FILE), "--pods", str(POD_FILE), "--url", running.url)
    refused(
        running.commons("import", "openb", *files, "--json"),
        "this instance was founded as 'The demo commons'",
        "choose an empty COMMONS_HOME",
    )


def test_an_import_where_nothing_answers_is_refused(cold: Instance) -> None:
    files = ("--nodes", str(NODE_FILE), "--pods", str(POD_FILE), "--url", cold.url)
    refused(cold.commons("import", "openb", *files), f"nothing answers at {cold.url}")


@pytest.mark.parametrize("command", ["up", "keys rotate acknowledgements"])
def test_what_needs_a_home_alone_is_refused_while_it_runs_whatever_the_port(running: Instance, command: str) -> None:
    refused(Instance(running.home).commons(*command.split()), "is in use by another process")
    assert httpx.get(f"{running.url}/health/ready", trust_env=False).status_code == 200


@pytest.fixture(scope="module")
def keeper(running: Instance, tmp_path_factory: pytest.TempPathFactory) -> Keeper:
    return asyncio.run(keep_and_lease(running, tmp_path_factory.mktemp("keeper")))


def test_a_steward_challenges_a_storage_lease_with_one_command(keeper: Keeper) -> None:
    who = ("--key", keeper.key_file("steward"), "--ask", keeper.ask)
    told = one_object(keeper.instance.commons("challenge", "storage", keeper.lease, *who, "--json"))
    assert (told["passed"], told["lease"], told["node"]) == (True, keeper.lease, keeper.home.key.node)
    fact = keeper.fact(told["challenge"])
    assert (fact["passed"], keeper.judged(fact)) == (True, True)
    refused(keeper.instance.commons("challenge", "storage", "f" * 32, *who), "answered 404")


@pytest.mark.parametrize("answer", ["other_chunks", "another_node_s", "of_another_challenge", "no_jws", "nothing"])
def test_a_storage_challenge_that_is_answered_otherwise_has_failed(keeper: Keeper, answer: str) -> None:
    # What is no answer of the node's to this challenge is none: it began so long ago that the tool hardly waits.
    told = keeper.carried_out(getattr(answers, answer), ago_ms=0 if answer == "other_chunks" else 59_000)
    fact = keeper.fact(told["challenge"])
    assert (told["passed"], fact["passed"], fact["node_jws"] is None) == (False, False, answer != "other_chunks")


def test_only_a_steward_records_a_storage_challenge(keeper: Keeper) -> None:
    with pytest.raises(ApiRefused, match="403"):
        keeper.carried_out(Keeper.answer, by="aurora")


def test_a_second_genesis_is_refused(running: Instance, tmp_path: Path) -> None:
    file = genesis_file(tmp_path, "name: The demo commons", "name: Another one")
    refused(
        running.commons("genesis", file, "--json"),
        "this instance was founded as 'The demo commons'",
        "one instance holds one community",
    )


def test_an_operators_key_from_which_others_follow_is_not_rotated(running: Instance) -> None:
    before = (running.home / "keys" / "operator.key").read_text()
    refused(running.commons("keys", "rotate", "operator", "--json"), "are derived from this one")
    assert (running.home / "keys" / "operator.key").read_text() == before


def belonging_to(home: Path) -> list[psutil.Process]:
    """The processes that live for a home: ours, and those of its database."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            where = process.cwd()
            ours = process.environ().get("COMMONS_HOME") == str(home)
        except psutil.Error:
            continue
        if ours or str(home) in f"{command} {where}":
            found.append(process)
    return found


def child_of(running: Instance, role: str) -> psutil.Process:
    """The living process that has a role."""
    for process in running.family():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if "child" in command and role in command and process.status() != psutil.STATUS_ZOMBIE:
            return process
    raise LookupError(role)


@pytest.mark.parametrize("role", ["http", "follow"])
def test_a_child_that_is_killed_is_started_again_and_says_so(running: Instance, role: str) -> None:
    before = child_of(running, role)
    before.kill()
    until(lambda: f"the process for {role}" in running.log() and "killed by SIGKILL" in running.log())
    running.wait_ready()
    until(lambda: has(running, role))
    assert child_of(running, role).pid != before.pid
    until(lambda: httpx.get(f"{running.url}/v1/views/members", trust_env=False).status_code == 200)


def has(running: Instance, role: str) -> bool:
    try:
        return bool(child_of(running, role))
    except LookupError:
        return False


def test_when_the_supervisor_is_killed_its_children_end_and_the_next_one_goes_on(running: Instance) -> None:
    assert running.process is not None
    children = [child_of(running, role) for role in ("http", "follow")]
    database = postmaster(running.home)
    running.process.kill()
    running.process.wait(10)
    running.process = None
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert not alive, "a child without its supervisor ends by itself"
    assert len(gone) == 2
    assert database.is_running(), "the database goes on: its callers' work is not cut off"
    running.start()
    assert "taking over the database server" in running.log()
    assert postmaster(running.home).pid == database.pid
    assert httpx.get(f"{running.url}/v1/views/members", trust_env=False).json()["items"]


def postmaster(home: Path) -> psutil.Process:
    return psutil.Process(int((home / "postgres" / "data" / "postmaster.pid").read_text().split()[0]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_ends_everything(running: Instance, number: signal.Signals) -> None:
    assert running.process is not None
    assert len(belonging_to(running.home)) > 4
    running.process.send_signal(number)
    assert running.process.wait(30) == 0
    running.process = None
    assert belonging_to(running.home) == []
    assert not (running.home / "run" / "database").exists()
    running.start(*(("up", "--single") if number is signal.SIGINT else ("up",)))


@pytest.mark.parametrize("missing", ["PG_VERSION", "global/pg_control"])
def test_a_broken_data_directory_is_named_with_what_to_do(running: Instance, missing: str) -> None:
    if running.process is not None:
        assert running.stop() == 0
    path = running.home / "postgres" / "data" / missing
    kept = path.read_bytes()
    owner = path.stat()
    path.unlink()
    refused(running.commons("up"), "is broken", missing, "Restore it from a backup")
    assert belonging_to(running.home) == []
    path.write_bytes(kept)
    os.chown(path, owner.st_uid, owner.st_gid)
    path.chmod(owner.st_mode)


@pytest.mark.soak
def test_the_demo_again_on_its_home_goes_on(tmp_path: Path) -> None:
    demo = Instance(tmp_path / "home")
    first, again = (one_object(demo.commons("demo", "--json")) for _ in range(2))
    assert first["proved"]["sound"]
    assert again["proved"]["sound"]
    assert first["happened"]["rewards_paid"] == again["happened"]["rewards_paid"] > 0
    assert again["happened"]["batches_duplicate"] == again["happened"]["batches_sent"]


@pytest.mark.soak
def test_a_demo_that_is_interrupted_ends_at_once_and_leaves_nothing(tmp_path: Path) -> None:
    demo = Instance(tmp_path / "home")
    demo.start("demo")
    time.sleep(1)
    assert demo.stop() == 130
    assert belonging_to(demo.home) == []
    assert "Traceback" not in demo.log()
    assert "never awaited" not in demo.log()
    assert one_object(demo.commons("demo", "--json"))["proved"]["sound"], "and goes on when it is started again"
