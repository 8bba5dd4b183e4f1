"""What must hold after everything: facts once in the store, on Kafka at least once, effective once; equal views."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from aiokafka import AIOKafkaConsumer, TopicPartition  # type: ignore[import-untyped]

from events.facts import FACTS_BY_SERVICE
from infra.following import followers
from infra.kafka.records import read
from infra.kafka.topics import Cluster
from infra.platform import Platform, open_platform
from projections.rebuild import Rebuild
from services.kernel.acks import Ack
from tests.roles import Roles
from tests.seeded_load import Writer

CATCH_UP_SECONDS = 90
CAUSE, EFFECT = "registry.member-registered.v1", "policy/treasury.open-accounts"


@dataclass
class Ledger:
    """What was found so far, so that a later look reads only what is new."""

    instance: Roles
    cluster: Cluster
    dsn: str
    hashes: dict[str, list[bytes]] = field(default_factory=lambda: {service: [] for service in FACTS_BY_SERVICE})
    commands: dict[tuple[str, int], str] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    causes: list[str] = field(default_factory=list)
    effects: set[str] = field(default_factory=set)
    decided: dict[tuple[str, str, str], int] = field(default_factory=dict)
    accounts: Counter[tuple[str, str]] = field(default_factory=Counter)
    payments: Counter[tuple[str, str]] = field(default_factory=Counter)
    sent: dict[str, set[int]] = field(default_factory=lambda: {service: set() for service in FACTS_BY_SERVICE})
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    acknowledged: int = 0

    def check(self, writers: Sequence[Writer]) -> None:
        """Wait until everybody has seen what is recorded now, then look at everything."""
        told = [each for writer in writers for each in list(writer.acknowledged)]
        self._store()
        self._acknowledged(told)
        asyncio.run(self._followed())

    def _store(self) -> None:
        """Read what is new: positions have no hole, ids are unique, each command has its facts once."""
        with psycopg.connect(self.dsn) as connection:
            for service, known in self.hashes.items():
                rows = connection.execute(
                    f"SELECT notification_id, topic, originator_id, state FROM {service}.events "
                    "WHERE notification_id > %s ORDER BY notification_id",
                    (len(known),),
                ).fetchall()
                for position, topic, stream, state in rows:
                    assert position == len(known) + 1, f"{service} has a hole before {position}"
                    known.append(hashlib.sha256(state).digest())
                    self._fact(service, position, topic, stream, json.loads(state))

    def _fact(self, service: str, position: int, topic: str, stream: str, fact: dict[str, Any]) -> None:
        assert fact["id"] not in self.ids, fact["id"]
        self.ids.add(fact["id"])
        self.commands[service, position] = fact.get("commandid", "")
        actor = fact.get("actor", "")
        if topic == "treasury.transaction-posted.v1":
            self.payments[actor, fact["commandid"]] += 1
        if topic == CAUSE and actor.startswith("member/"):  # who comes with genesis has an account by it
            self.causes.append(fact["id"])
        if topic == "treasury.account-opened.v1":
            self.accounts[stream, fact["data"]["account"]] += 1
        if actor == EFFECT:
            self.effects.add(fact["causationid"])
        if "commandid" in fact:
            command = service, actor, fact["commandid"]
            last = self.decided.setdefault(command, position)
            assert position - last <= 1, f"{command} was decided twice: its facts do not stand together"
            self.decided[command] = position

    def _acknowledged(self, told: Iterable[tuple[str, str, Ack]]) -> None:
        self.acknowledged = 0
        assert set(self.payments.values()) <= {1}, "a payment was made twice"
        for service, step, ack in told:
            assert ack.position is not None
            position = int(ack.position)
            assert self.hashes[service][position - 1].hex() == ack.record_hash, step
            assert self.commands[service, position] == step
            self.acknowledged += 1

    async def _followed(self) -> None:
        heads = {service: len(known) for service, known in self.hashes.items()}
        causes = list(self.causes)
        async with open_platform(self.instance.settings, self.dsn) as platform:
            await self._reached(platform, heads)
            for view in platform.views:
                report = await Rebuild(view, platform.view_store, platform.stores, platform.catalog).check()
                assert report.hash_before, f"{view.name} cannot be compared"
                assert report.equal, f"{view.name} differs from a clean rebuild: {report.differences}"
                assert not report.parked
        await self._relayed(heads)
        self._effective_once(causes)

    async def _reached(self, platform: Platform, heads: dict[str, int]) -> None:
        behind: list[str] = []
        try:
            async with asyncio.timeout(CATCH_UP_SECONDS):
                while behind := [
                    f"{each.follower} at {each.channel} {each.position}"
                    for each in await followers(platform)
                    if each.position < heads[each.channel]
                ]:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"not followed to {heads}: {'; '.join(behind)}\n{self.instance.log()}") from None

    async def _relayed(self, heads: dict[str, int]) -> None:
        """Read what is new in every topic: it holds each recorded fact, byte for byte."""
        topics = {self.cluster.topic(service): service for service in heads}
        places = [TopicPartition(topic, number) for topic in topics for number in range(self.cluster.partitions)]
        consumer = AIOKafkaConsumer(bootstrap_servers=self.cluster.bootstrap, enable_auto_commit=False)
        await consumer.start()
        try:
            consumer.assign(places)
            for place in places:
                consumer.seek(place, self.offsets.get(place, 0))
            async with asyncio.timeout(CATCH_UP_SECONDS):
                while not all(self.sent[service].issuperset(range(1, head + 1)) for service, head in heads.items()):
                    for place, records in (await consumer.getmany(timeout_ms=500)).items():
                        self._take(topics[place.topic], records)
                        self.offsets[place] = records[-1].offset + 1
        finally:
            await asyncio.sleep(0)  # a client stopped before its tasks have begun raises CancelledError
            await consumer.stop()

    def _take(self, service: str, records: Iterable[object]) -> None:
        for record in records:
            came = read(record)
            if came.position > len(self.hashes[service]):
                self._store()
            assert self.hashes[service][came.position - 1] == came.record_hash
            if came.fact is not None:
                self.sent[service].add(came.position)

    def _effective_once(self, causes: Iterable[str]) -> None:
        self._store()
        assert set(self.accounts.values()) <= {1}, "an account was opened twice"
        missing = set(causes) - self.effects
        assert not missing, f"facts that took no effect: {missing}"
