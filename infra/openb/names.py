"""Keys and ids of an import: everything follows from the operator's key and the names, so two runs agree."""

from __future__ import annotations

from functools import lru_cache

from events.values import identifier
from infra.keys import SigningKey, derive_key, member_key
from infra.openb.trace import TraceNode


class Names:
    """Derives what an import needs from the operator's 32-byte seed and the community's name for the import."""

    def __init__(self, seed: bytes, realm: str) -> None:
        """Keep the seed; `realm` keeps two imports apart (the backfill's name)."""
        self._seed = seed
        self._realm = realm
        self.member = lru_cache(maxsize=None)(self._member)
        self.node = lru_cache(maxsize=None)(self._node)

    def _member(self, handle: str) -> SigningKey:
        return member_key(self._seed, handle)

    def _node(self, name: str) -> SigningKey:
        return derive_key(self._seed, self._realm, "node", name)

    def devices(self, node: TraceNode) -> list[str]:
        """Return the node's device ids: keyed hashes of hardware UUIDs the trace does not tell."""
        secret = derive_key(self._seed, self._realm, "hardware").private.private_bytes_raw()
        return [f"device/{identifier('commons.device', secret, node.name, str(i))}" for i in range(node.gpus)]

    def lease(self, pod: str) -> str:
        """Return the lease id of a pod."""
        return identifier("commons.lease", self._realm, self._seed, pod)

    def challenge(self, device: str, number: int) -> str:
        """Return the id, and so the seed, of a device's n-th challenge."""
        return identifier("commons.challenge", self._realm, self._seed, device, str(number))

    def command(self, *parts: str) -> str:
        """Return the idempotency key of a step, so that a step repeated after a kill is a repetition."""
        return identifier("commons.import", self._realm, self._seed, *parts)
