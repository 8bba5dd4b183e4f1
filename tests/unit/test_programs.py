"""What the programs of PostgreSQL are told: a password never as an argument, which others could read."""

from __future__ import annotations

import pytest

from infra.postgres.programs import programs


@pytest.mark.parametrize(
    ("dsn", "address", "password"),
    [
        ("postgresql://u@db/x", "postgresql://u@db/x", None),
        ("postgresql:///x?host=/run", "postgresql:///x?host=/run", None),
        ("postgresql://u:sek%40ret@db:5432/x", "postgresql://u@db:5432/x", "sek@ret"),
        ("postgresql://u@db/x?password=sek%40ret", "postgresql://u@db/x", "sek@ret"),
        ("postgresql://u@/x?host=/run&password=sekret&port=1", "postgresql://u@/x?host=/run&port=1", "sekret"),
        ("postgresql://u@db/x?pass%77ord=sekret", "postgresql://u@db/x", "sekret"),
        ("postgresql://u:sekret@db/x?password=other", "postgresql://u@db/x", "sekret"),
    ],
)
def test_a_password_travels_in_the_environment_wherever_it_stands_in_the_address(
    monkeypatch: pytest.MonkeyPatch, dsn: str, address: str, password: str | None
) -> None:
    monkeypatch.delenv("PGPASSWORD", raising=False)
    found = programs(dsn, 18)
    assert (found.address, found.environment.get("PGPASSWORD")) == (address, password)
