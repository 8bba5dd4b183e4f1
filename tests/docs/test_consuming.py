"""The consumers that docs/consuming.md shows work as they stand: its blocks run here on topics our relay filled."""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from aiokafka import AIOKafkaProducer

from infra.kafka.records import fact_headers
from infra.kafka.topics import Cluster
from infra.memory import MemoryStore
from tests.history import History, a_community
from tests.kafka_source import KafkaSource, skip_unless_real
from tests.relaying import TwicePublisher, relaying
from tests.source import ROOT

TEXT = (ROOT / "docs" / "consuming.md").read_text()
(PYTHON,) = re.findall(r"^<!-- test -->\n```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
KCAT = re.findall(r"^<!-- test kcat -->\n```bash\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
SERVICE = "treasury"
Run = Callable[[], subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def _real(kafka: KafkaSource) -> None:
    skip_unless_real(kafka)


@pytest.fixture
async def store() -> MemoryStore:
    """The treasury of a small community."""
    stores = {
        name: MemoryStore(name, clock=lambda: 1_760_000_000_000_000) for name in ("registry", "metering", SERVICE)
    }
    await History(stores).record(*a_community(Random(4), 60))
    return stores[SERVICE]


@pytest.fixture
async def filled(cluster: Cluster, store: MemoryStore) -> Cluster:
    """Topics that a relay has filled, sending everything twice, down to the last watermark."""
    async with relaying([store], cluster, TwicePublisher) as (relay,):
        head = (await store.head()).position
        async with asyncio.timeout(30):
            while relay._acked.position < head:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)  # watermarks follow within 200 ms
    return cluster


@pytest.fixture
def consumer(tmp_path: Path, cluster: Cluster) -> Run:
    """Run the consumer of the document."""
    path = tmp_path / "follow.py"
    path.write_text(PYTHON)
    command = [sys.executable, str(path), cluster.bootstrap, cluster.topic(SERVICE)]
    return lambda: subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def shell(block: str, cluster: Cluster) -> str:
    """Run a block of shell as a reader would, on this test's broker and topic."""
    text = block.replace("localhost:9094", cluster.bootstrap).replace(f"{SERVICE}.events", cluster.topic(SERVICE))
    command = ["bash", "-euo", "pipefail", "-c", text]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_consumer_of_the_document_has_twenty_lines() -> None:
    assert len([line for line in PYTHON.splitlines() if line]) == 20


async def test_the_consumer_of_the_document_sees_every_fact_once_with_its_hash_and_knows_how_far_it_came(
    filled: Cluster, store: MemoryStore, consumer: Run
) -> None:
    done = await asyncio.to_thread(consumer)
    assert (done.returncode, done.stderr) == (0, "")
    *facts, last = done.stdout.splitlines()
    records = await store.read(0, 1_000)
    assert len(records) > 20
    expected = [
        f"{each.id} {each.topic} {each.originator_id} {hashlib.sha256(each.state).hexdigest()}" for each in records
    ]
    assert sorted(facts) == sorted(expected)
    assert last == f"everything up to position {records[-1].id}"


async def test_the_consumer_of_the_document_stops_where_facts_are_missing(
    filled: Cluster, store: MemoryStore, consumer: Run
) -> None:
    (record,) = await store.read(0, 1)
    producer = AIOKafkaProducer(bootstrap_servers=filled.bootstrap)
    await producer.start()
    missed = fact_headers(record, 10_000)
    await producer.send_and_wait(filled.topic(SERVICE), record.state, partition=0, headers=list(missed))
    await producer.stop()
    done = await asyncio.to_thread(consumer)
    assert done.returncode == 1
    assert re.search(r"^GAP: partition 0 holds \d+, what comes next follows 10000$", done.stderr, re.MULTILINE)
    if shutil.which("kcat"):
        assert shell(KCAT[2], filled).startswith("GAP in partition 0 after ")


@pytest.mark.skipif(shutil.which("kcat") is None, reason="there is no kcat")
async def test_kcat_shows_facts_and_watermarks_hashes_and_no_gap(filled: Cluster, store: MemoryStore) -> None:
    listed, hashed, gaps = [await asyncio.to_thread(shell, block, filled) for block in KCAT]
    records = await store.read(0, 1_000)
    for record in records:
        assert f"position={record.id}," in listed
    assert "watermark+json" in listed
    assert hashed.split()[0] in {hashlib.sha256(each.state).hexdigest() for each in records}
    assert gaps == ""
