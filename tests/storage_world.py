"""A storage lease whose content is known, and honest answers to challenges of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

import msgspec

from events.metering import Content, Lease, LeasedDevice, LeasesOpened, StorageChallenged
from events.values import identifier
from services.kernel.decider import Emit
from services.kernel.jws import b64
from services.metering.commands import RecordStorageChallenge
from services.metering.merkle import audit_path, leaf_hash, merkle_root
from services.metering.storage import Answer, Question, answer_sha256, drawn
from tests.metering_world import DAY, NOW_MS, World, device, lease_id, member, node, signed

GENESIS = "0" * 64
SEED = "5eed" * 16
SECOND = 1_000
NODE = "keeper"
LEASE = lease_id("stored")


def content_of(size: int, salt: str = "content") -> bytes:
    """Bytes of which no two chunks are alike."""
    return b"".join(sha256(f"{salt} {i}".encode()).digest() for i in range(-(-size // 32)))[:size]


def chunks_of(content: bytes) -> list[bytes]:
    return [content[at : at + 512].ljust(512, b"\x00") for at in range(0, len(content), 512)]


def root_of(content: bytes) -> str:
    return merkle_root(chunks_of(content)).hex()


def shown(content: bytes, places: Sequence[int]) -> list[list[Any]]:
    """What a node that has the content shows of it."""
    chunks = chunks_of(content)
    hashes = [leaf_hash(chunk) for chunk in chunks]
    return [[i, b64(chunks[i]), [b64(one) for one in audit_path(hashes, i)]] for i in places]


@dataclass
class Stored:
    """A world with a node that keeps `content` for a lease of a day."""

    content: bytes
    owner: str = "provider"
    start_ms: int = NOW_MS
    close_after_seconds: int = 172_800
    challenger: str = "operator"
    linked: Literal["guild"] | None = None
    count: int = 0

    def __post_init__(self) -> None:
        self.world = World(close_after_seconds=self.close_after_seconds).with_node(NODE, owner=self.owner)
        lease = Lease(
            LEASE,
            "storage",
            node(NODE),
            member(self.owner),
            (LeasedDevice(device(NODE, 9), "disk"),),
            1,
            self.start_ms,
            self.start_ms + DAY,
            "storage",
            "1",
            self.linked,
            content=Content(root_of(self.content), len(self.content)),
        )
        self.world.spec.given(Emit("project/project", LeasesOpened("project", member("consumer"), (lease,), "jws")))

    @property
    def lease(self) -> Any:
        return self.world.spec.state.leases[LEASE]

    def places(self, seed: str = SEED) -> tuple[int, ...]:
        return drawn(seed, LEASE, len(chunks_of(self.content)))

    def question(self, start_ms: int, end_ms: int, node_jws: str | None, **changes: Any) -> str:
        self.count += 1
        sha = None if node_jws is None else answer_sha256(node_jws)
        challenge = identifier("challenge", str(self.count))
        made = Question(GENESIS, challenge, node(NODE), LEASE, SEED, start_ms, end_ms, sha)
        return signed(msgspec.json.encode(msgspec.structs.replace(made, **changes)), self.challenger)

    def answer(self, start_ms: int, end_ms: int, chunks: Sequence[Any] | None = None, **changes: Any) -> str:
        """The node's answer to the next question; honest unless told otherwise."""
        rows = shown(self.content, self.places()) if chunks is None else chunks
        challenge = identifier("challenge", str(self.count + 1))
        made = Answer(GENESIS, challenge, node(NODE), LEASE, SEED, start_ms, end_ms, tuple(rows))
        return signed(msgspec.json.encode(msgspec.structs.replace(made, **changes)), NODE)

    def challenged(
        self, end_ms: int, *, chunks: Sequence[Any] | None = None, took_ms: int = SECOND, at_ms: int | None = None
    ) -> StorageChallenged:
        """A challenge that ends at `end_ms` with an answer, recorded then or at `at_ms`."""
        jws = self.answer(end_ms - took_ms, end_ms, chunks)
        return self.recorded(self.question(end_ms - took_ms, end_ms, jws), jws, at_ms or end_ms)

    def unanswered(self, end_ms: int, at_ms: int | None = None) -> StorageChallenged:
        return self.recorded(self.question(end_ms - 60 * SECOND, end_ms, None), None, at_ms or end_ms)

    def recorded(self, question: str, node_jws: str | None, at_ms: int) -> StorageChallenged:
        self.world.at(at_ms)
        command = RecordStorageChallenge(question, node_jws)
        return self.world.spec.when(command, member(self.challenger))[0]
