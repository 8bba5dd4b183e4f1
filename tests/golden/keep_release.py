"""Keeps what a release leaves behind, for `tests/last_release.py`: run once per release, on that release's own tree.

`COMMONS_HOME=<a small home, stopped> python -m tests.golden.keep_release`, after `commons rebuild` on that home.
Choose a home with a little of everything (the two nodes of `tests/two_nodes.py`, some members, some payments): all
three files together stay below 200 KB. Its keys are then known to everyone.
"""

from __future__ import annotations

import asyncio
import json
import subprocess

from infra.keys import KeyDirectory
from infra.local import database
from infra.memory_views import MemoryViews
from infra.platform import Platform, open_platform
from infra.postgres.migration import check_postgres
from infra.postgres.programs import programs
from infra.settings import read_settings
from projections.rebuild import Rebuild
from tests import last_release

DUMP = ("--inserts", "--rows-per-insert=50", "--no-owner", "--no-privileges", "--no-comments")
LEFT_OUT = ("--exclude-schema=views*building", "--exclude-schema=keystore", "--exclude-table-data=edge.nonces")


async def keep_facts(platform: Platform) -> None:
    lines = [
        record.state + b"\n"
        for service in last_release.SERVICES
        for record in await platform.stores[service].read(0, 1_000_000)
    ]
    (last_release.FOLDER / "facts.jsonl").write_bytes(b"".join(lines))


async def keep_tables(dsn: str) -> None:
    events = [f"--exclude-table-data={service}.events" for service in last_release.SERVICES]
    program = programs(dsn, await check_postgres(dsn)).start(
        "pg_dump", *DUMP, *LEFT_OUT, *events, stdout=subprocess.PIPE
    )
    text = (await asyncio.to_thread(program.communicate))[0].decode()
    kept = [line for line in text.splitlines() if line and not line.startswith(("--", "\\", "SET "))]
    (last_release.FOLDER / "database.sql").write_text("\n".join(kept) + "\n")


async def keep_hashes(platform: Platform) -> None:
    views, memory, stores = {}, MemoryViews(), last_release.in_memory()
    for view in platform.views:
        async with platform.view_store.reading(view) as snapshot:
            live = await snapshot.digest(view)
        await memory.prepare(view)
        anew = (await Rebuild(view, memory, stores, platform.catalog).run()).hash_after
        views[view.name] = {"version": view.version, "hash": live, "memory_hash": anew}
    heads = {name: (await store.head()).position for name, store in platform.stores.items()}
    inputs = KeyDirectory(platform.settings.home).secret("inputs").hex()
    said = {"inputs_key": inputs, "heads": heads, "views": views}
    (last_release.FOLDER / "expected.json").write_text(json.dumps(said, indent=2) + "\n")


async def main() -> None:
    settings = read_settings()
    async with database(settings, print) as dsn, open_platform(settings, dsn) as platform:
        await keep_facts(platform)
        await keep_tables(dsn)
        last_release.records.cache_clear()
        await keep_hashes(platform)


if __name__ == "__main__":
    asyncio.run(main())
