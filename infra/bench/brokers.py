"""The brokers a benchmark measures on: those COMMONS_TEST_KAFKA names, else one native broker of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]

from infra.kafka.broker import NativeKafka
from infra.kafka.topics import Cluster


@asynccontextmanager
async def brokers(home: Path) -> AsyncIterator[Cluster]:
    """Yield topics and groups under a prefix of this run's own; the topics are gone afterwards.

    Raises NoNativeKafka where nothing is given and no native broker can be had.
    """
    given = os.environ.get("COMMONS_TEST_KAFKA")
    if given:
        cluster = Cluster(given, prefix=_prefix())
        try:
            yield cluster
        finally:
            await drop(cluster)
        return
    native = NativeKafka(home / "kafka")
    try:
        yield Cluster(await asyncio.to_thread(native.start), prefix=_prefix())
    finally:
        await asyncio.to_thread(native.stop)


async def drop(cluster: Cluster) -> None:
    """Delete every topic whose name begins with the cluster's prefix."""
    admin = AIOKafkaAdminClient(bootstrap_servers=cluster.bootstrap)
    try:
        await admin.start()
        ours: Sequence[str] = [name for name in await admin.list_topics() if name.startswith(cluster.prefix)]
        if ours:
            await admin.delete_topics(list(ours))
    finally:
        await admin.close()


def _prefix() -> str:
    return f"bench-{uuid4().hex[:12]}."
