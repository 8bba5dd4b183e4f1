"""The balances kept the eventsourcing library's way: its application, its projection runner, one fact per commit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import msgspec
from eventsourcing.application import Application
from eventsourcing.domain import DomainEvent
from eventsourcing.persistence import Tracking
from eventsourcing.postgres import PostgresDatastore, PostgresTrackingRecorder
from eventsourcing.projection import Projection, ProjectionRunner
from psycopg import Connection
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier

from events.treasury import TransactionPosted

if TYPE_CHECKING:
    from infra.bench.rounds import Work

_WAIT_SECONDS: Final = 60.0
_STREAM: Final = UUID(int=1)
_BATCH: Final = 200
"""Events in one insert: the library sends them in one psycopg pipeline, and 2,000 fill both sockets and hang."""


@dataclass(frozen=True)
class Posted(DomainEvent):
    """A transaction of one posting, as a domain event of the library."""

    debit: str
    credit: str
    amount: int


class Book(Application[UUID]):
    """The application whose events are projected."""

    name = "book"


class Balances(PostgresTrackingRecorder):
    """The library's tracking table with a table of balances beside it."""

    def __init__(self, datastore: PostgresDatastore, **kwargs: Any) -> None:
        """Add our table to those the recorder makes."""
        super().__init__(datastore, **kwargs)
        self._table = SQL("{0}.{1}").format(
            Identifier(datastore.schema), Identifier(f"{self.tracking_table_name}_balances")
        )
        self.sql_create_statements.append(
            SQL("CREATE TABLE IF NOT EXISTS {0} (account text PRIMARY KEY, balance bigint NOT NULL)").format(
                self._table
            )
        )
        self._upsert = SQL(
            "INSERT INTO {0} AS b VALUES (%s, %s), (%s, %s) "
            "ON CONFLICT (account) DO UPDATE SET balance = b.balance + excluded.balance"
        ).format(self._table)

    def post(self, event: Posted, tracking: Tracking) -> None:
        """Move the balances and the tracking in one transaction."""
        with self.datastore.transaction(commit=True) as cursor:
            self._insert_tracking(cursor, tracking)
            cursor.execute(self._upsert, (event.debit, -event.amount, event.credit, event.amount))


class BalancesProjection(Projection[Balances]):
    """Hands each event to the view."""

    def process_event(self, domain_event: Any, tracking: Tracking) -> None:
        """Fold one event; nothing but postings is in the book."""
        self.view.post(domain_event, tracking)


@contextmanager
def library_projection(dsn: str, schema: str, records: Sequence[bytes]) -> Iterator[Work]:
    """Fill the library's own application with what `records` say; yield a round that projects all of it anew."""
    environment = _environment(dsn, schema)
    with Connection.connect(dsn, autocommit=True) as connection:
        connection.execute(SQL("CREATE SCHEMA IF NOT EXISTS {}").format(Identifier(schema)))
    with Book(environment) as application:
        stored = [application.mapper.to_stored_event(event) for event in _events(records)]
        for start in range(0, len(stored), _BATCH):
            application.recorder.insert_events(stored[start : start + _BATCH])

    def project(number: int) -> int:
        fresh = type(f"Balances{number}", (BalancesProjection,), {"name": f"round{number}"})
        with ProjectionRunner(
            application_class=Book, projection_class=fresh, view_class=Balances, env=environment
        ) as runner:
            runner.wait(len(records), timeout=_WAIT_SECONDS)
        return len(records)

    async def work(number: int) -> int:
        return await asyncio.to_thread(project, number)

    yield work


def _environment(dsn: str, schema: str) -> dict[str, str]:
    """Return the library's settings for the database of `dsn`; it takes a password and no password file."""
    target = {name: str(value) for name, value in conninfo_to_dict(dsn).items()}
    password = target.get("password", "")
    if "passfile" in target:
        password = Path(target["passfile"]).read_text(encoding="utf-8").strip().rpartition(":")[2]
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": target["dbname"],
        "POSTGRES_HOST": target["host"],
        "POSTGRES_PORT": target.get("port", "5432"),
        "POSTGRES_USER": target["user"],
        "POSTGRES_PASSWORD": password,
        "POSTGRES_SCHEMA": schema,
    }


def _events(records: Sequence[bytes]) -> Iterator[Posted]:
    class Record(msgspec.Struct):
        data: TransactionPosted

    decoder = msgspec.json.Decoder(Record)
    for version, record in enumerate(records, 1):
        posting = decoder.decode(record).data.postings[0]
        yield Posted(_STREAM, version, Posted.create_timestamp(), posting.debit, posting.credit, int(posting.amount))
