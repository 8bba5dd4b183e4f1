"""The genesis document, judged: its canonical bytes, its hash, and every rule it must keep (DESIGN 9)."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from events.genesis import Community, PerformanceTable, chain_of
from services.registry.genesis_backfills import backfill_problems
from services.registry.genesis_pools import pool_problems
from services.registry.genesis_rules import (
    chain_problems,
    currency_problems,
    epoch_problems,
    key_problems,
    member_problems,
    name_problems,
    project_problems,
    rule_problems,
)
from services.registry.genesis_summary import SummaryRow, initial_amounts, summary
from services.registry.genesis_tables import table_problems, tables_problems
from services.registry.genesis_values import instant_ms

__all__ = [
    "FOUNDER",
    "SummaryRow",
    "canonical",
    "check",
    "founding_command_id",
    "initial_amounts",
    "instant_ms",
    "sha256",
    "summary",
    "table_problems",
    "table_sha256",
]

FOUNDER: Final = "operator/genesis"
"""Who founds: the person at the command line of an empty instance, before any member exists."""

MOST_BYTES: Final = 60_000
"""The document is one fact, and a fact with its envelope fits in 65,535 bytes."""

_ENCODER: Final = msgspec.json.Encoder(order="sorted")


def canonical(community: Community) -> bytes:
    """Return the document's canonical JSON: RFC 8785, defaults written out.

    Its keys are ASCII and its numbers integers below 2^53, so sorting keys and leaving out white space is all it takes.
    """
    return _ENCODER.encode(community)


def sha256(community: Community) -> str:
    """Return the hex SHA-256 of the canonical JSON; it stands in the first fact."""
    return hashlib.sha256(canonical(community)).hexdigest()


def table_sha256(table: PerformanceTable) -> str:
    """Return the hex SHA-256 of a performance table's canonical JSON."""
    return hashlib.sha256(_ENCODER.encode(table)).hexdigest()


def founding_command_id(community: Community) -> str:
    """Return the id of the command that founds with this document: founding twice is founding once."""
    return f"genesis-{sha256(community)}"


def check(community: Community) -> list[str]:
    """Return everything that is wrong with the document, each as `path: sentence`; empty when it may found."""
    problems = [
        *name_problems(community),
        *member_problems(community),
        *key_problems(community),
        *project_problems(community),
        *currency_problems(community.currency, community),
        *epoch_problems(community.epochs),
        *tables_problems(community.performance_tables),
        *backfill_problems(community),
        *rule_problems(community),
        *pool_problems(community),
        *chain_problems(chain_of(community)),
    ]
    size = len(canonical(community))
    if size > MOST_BYTES:
        problems.append(f"the document is {size} bytes as canonical JSON, at most {MOST_BYTES} fit in the first fact")
    return problems
