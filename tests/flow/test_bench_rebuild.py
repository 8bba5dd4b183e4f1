"""The benchmark of rebuilding measures what it says, on both sides, and leaves nothing behind."""

from __future__ import annotations

import asyncpg

from infra.bench.rebuild import bench_rebuild


async def test_a_short_round_rebuilds_equal_views_on_both_sides_and_cleans_up(database: str) -> None:
    figure = await bench_rebuild(database, accounts=50, facts=2_000, library_facts=40, rounds=1)
    assert figure.ours > figure.baseline > 0
    assert figure.ratio == figure.ours / figure.baseline
    connection = await asyncpg.connect(database)
    left = await connection.fetch(
        "SELECT table_name FROM information_schema.tables WHERE table_schema LIKE 'bench%' OR table_name LIKE 'bench%'"
    )
    kept = await connection.fetchval("SELECT count(*) FROM views.checkpoints")
    await connection.close()
    assert (left, kept) == ([], 0)
