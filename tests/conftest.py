"""Fixtures every test may ask for: a real PostgreSQL for the whole run, and a fresh database on it for one test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg.sql import SQL, Identifier


@pytest.fixture(scope="session")
def postgres_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address a PostgreSQL on which databases may be created: COMMONS_TEST_DATABASE, else an embedded server."""
    given = os.environ.get("COMMONS_TEST_DATABASE")
    if given:
        yield given
        return
    from infra.postgres.embedded import EmbeddedPostgres  # noqa: PLC0415 - a given database needs no supervisor

    server = EmbeddedPostgres(tmp_path_factory.mktemp("postgres"))
    dsn = server.start()
    try:
        yield dsn
    finally:
        server.stop()


@pytest.fixture
def database(postgres_dsn: str) -> Iterator[str]:
    """Address an empty database of this test's own; dropped at its end, with whoever is still connected."""
    name = f"test_{uuid4().hex}"
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        admin.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
        try:
            yield urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}"))
        finally:
            admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))
