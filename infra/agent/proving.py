"""What a node answers to a storage challenge: its signature over the drawn chunks and their audit paths."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from infra.agent.home import AgentHome
from infra.agent.link import Clock
from infra.agent.store import Store
from services.kernel.jws import b64
from services.metering.storage import Answer, chunk_count, drawn


@dataclass(frozen=True, slots=True)
class Asked:
    """A challenge as its challenger told it: `seed` is 64 hex digits, `root` the content that the lease names."""

    lease: str
    challenge: str
    seed: str
    start_ms: int
    root: str


def answer_to(home: AgentHome, asked: Asked, clock: Clock) -> str:
    """Return the node's JWS. Raises AgentRefused where the content is not kept here, or was damaged."""
    identity, store = home.identity(), Store(home.path)
    places = drawn(asked.seed, asked.lease, chunk_count(store.size(asked.root)))
    chunks = []
    for index in places:
        chunk, path = store.chunk(asked.root, index)
        chunks.append((index, b64(chunk), tuple(b64(one) for one in path)))
    answer = Answer(
        identity.genesis,
        asked.challenge,
        identity.node,
        asked.lease,
        asked.seed,
        asked.start_ms,
        clock.now_ms(),
        tuple(chunks),
    )
    return home.key.jws(msgspec.json.encode(answer))
