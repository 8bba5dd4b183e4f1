"""The eventsourcing library's own PostgreSQL recorder, for comparison (needs the development dependency psycopg)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eventsourcing.postgres import PostgresDatastore


def library_datastore(dsn: str, schema: str, connections: int = 5) -> PostgresDatastore:
    """Return the library's datastore on the database of `dsn`; the caller closes it.

    The library takes a password and no password file, so the file's last field is read here.
    """
    from eventsourcing.postgres import PostgresDatastore  # noqa: PLC0415 - psycopg is a development dependency
    from psycopg.conninfo import conninfo_to_dict  # noqa: PLC0415

    target = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    password = target.get("password", "")
    if "passfile" in target:
        password = Path(target["passfile"]).read_text(encoding="utf-8").strip().rpartition(":")[2]
    return PostgresDatastore(
        dbname=target["dbname"],
        host=target["host"],
        port=target.get("port", "5432"),
        user=target["user"],
        password=password,
        pool_size=connections,
        schema=schema,
        originator_id_type="text",
    )
