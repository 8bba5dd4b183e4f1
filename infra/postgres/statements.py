"""The SQL of one service's store; every statement goes by key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from infra.postgres.schema import lock_key, schema_name

EVENT_COLUMNS: Final = ("originator_id", "originator_version", "topic", "state", "notification_id", "time_us")
OUTCOME_COLUMNS: Final = ("key", "inputs", "first", "last", "answer")

_TURN: Final = """
SELECT c.now_us, e.time_us, e.originator_id, e.originator_version, e.topic, e.state, e.notification_id
FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now_us) AS c
LEFT JOIN LATERAL (
    SELECT originator_id, originator_version, topic,
        CASE WHEN notification_id = $1 THEN sha256(state) ELSE state END AS state, notification_id, time_us
    FROM {schema}.events WHERE notification_id >= $1 ORDER BY notification_id LIMIT $2
) AS e ON true ORDER BY e.notification_id
"""

_NEWS: Final = """
SELECT originator_id, originator_version, topic, state, notification_id, time_us
FROM {schema}.events WHERE notification_id > $1 ORDER BY notification_id LIMIT $2
"""

_READ: Final = """
SELECT originator_id, originator_version, topic, state, notification_id
FROM {schema}.events WHERE notification_id > $1 ORDER BY notification_id LIMIT $2
"""

_READ_STREAM: Final = """
SELECT originator_version, topic, state FROM {schema}.events
WHERE originator_id = $1 AND originator_version > $2 ORDER BY originator_version LIMIT $3
"""

_VERSIONS: Final = """
SELECT stream, last.originator_version FROM unnest($1::text[]) AS stream CROSS JOIN LATERAL (
    SELECT originator_version FROM {schema}.events WHERE originator_id = stream
    ORDER BY originator_version DESC LIMIT 1
) AS last
"""

_SWAP: Final = """
WITH wanted AS (
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bytea[]) AS m(name, before, position, hash)
), moved AS (
    UPDATE {schema}.tracking AS t SET notification_id = m.position, record_hash = m.hash
    FROM wanted AS m WHERE t.application_name = m.name AND t.notification_id = m.before RETURNING m.name
), begun AS (
    INSERT INTO {schema}.tracking (application_name, notification_id, record_hash)
    SELECT name, position, hash FROM wanted WHERE before = 0
    AND NOT EXISTS (SELECT FROM {schema}.tracking WHERE application_name = name)
    RETURNING application_name
)
SELECT name FROM moved UNION ALL SELECT application_name FROM begun
"""

_HEAD: Final = """
SELECT notification_id, time_us, sha256(state) FROM {schema}.events ORDER BY notification_id DESC LIMIT 1
"""

_OUTCOMES: Final = """
SELECT key, inputs, first, last, answer FROM {schema}.outcomes WHERE key = ANY($1::bytea[])
"""

_CHECKPOINTS: Final = """
SELECT follower, channel, notification_id, record_hash FROM {schema}.tracking WHERE follower = $1
"""

_SAVE_SNAPSHOT: Final = """
INSERT INTO {schema}.snapshots VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (name) DO UPDATE SET version = $2, position = $3, record_hash = $4, state = $5
"""

_LOAD_SNAPSHOT: Final = """
SELECT name, version, position, record_hash, state FROM {schema}.snapshots WHERE name = $1 AND version = $2
"""


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements of one service."""

    service: str
    channel: str
    lock: str
    turn: str
    news: str
    read: str
    read_stream: str
    versions: str
    swap: str
    head: str
    outcomes: str
    checkpoints: str
    save_snapshot: str
    load_snapshot: str

    def commit(self, position: int) -> str:
        """Return the text that commits, telling followers of `position` when facts were appended."""
        return f"NOTIFY {self.channel}, '{position}'; COMMIT" if position else "COMMIT"


def statements_of(service: str) -> Statements:
    """Return the statements of a service."""
    schema = schema_name(service)
    return Statements(
        service=service,
        channel=f"commons_{service}",
        lock=f"BEGIN ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock({lock_key('writer', service)})",
        turn=_TURN.format(schema=schema),
        news=_NEWS.format(schema=schema),
        read=_READ.format(schema=schema),
        read_stream=_READ_STREAM.format(schema=schema),
        versions=_VERSIONS.format(schema=schema),
        swap=_SWAP.format(schema=schema),
        head=_HEAD.format(schema=schema),
        outcomes=_OUTCOMES.format(schema=schema),
        checkpoints=_CHECKPOINTS.format(schema=schema),
        save_snapshot=_SAVE_SNAPSHOT.format(schema=schema),
        load_snapshot=_LOAD_SNAPSHOT.format(schema=schema),
    )


def tracking_name(follower: str, channel: str) -> str:
    """Return the library's application name of a follower on a channel; the follower's name has no `@`."""
    assert "@" not in follower, "the first @ ends the follower's name"
    return f"{follower}@{channel}" if channel else follower
