"""The store's benchmarks run and tell figures; whether floors hold is for `make bench` on a quiet machine."""

from __future__ import annotations

import asyncpg

from infra.bench.rounds import alternate
from infra.bench.store import bench_batches, bench_groups, bench_tail


async def test_the_benchmarks_tell_ours_beside_the_baseline_and_leave_nothing_behind(database: str) -> None:
    figures = [
        await bench_batches(database, rounds=1, size=50, times=2),
        await bench_groups(database, rounds=1, calls=16),
        await bench_tail(database, rounds=1, facts=5_000),
    ]
    for figure in figures:
        assert figure.ours > 0
        assert figure.baseline > 0
        assert figure.ratio == figure.ours / figure.baseline
    connection = await asyncpg.connect(database)
    try:
        assert await connection.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'bench%'") == 0
    finally:
        await connection.close()


async def test_rounds_alternate_and_the_first_only_warms_up() -> None:
    calls: list[tuple[str, int]] = []

    async def ours(number: int) -> int:
        calls.append(("ours", number))
        return 1

    async def theirs(number: int) -> int:
        calls.append(("theirs", number))
        return 1

    assert len(await alternate(2, ours, theirs)) == 2
    assert calls == [("ours", 0), ("theirs", 0), ("ours", 1), ("theirs", 1), ("ours", 2), ("theirs", 2)]
