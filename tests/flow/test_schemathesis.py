"""The whole platform under signed fuzzing: no answer is a 5xx, and the calls come past the door."""

from __future__ import annotations

import asyncio
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from events.values import identifier
from infra.http.client import SignedClient
from infra.keys import SigningKey, derive_key
from services.registry.genesis import sha256
from tests.flow.schemathesis_signed import run_signed
from tests.instance import Instance, instance

HANDLES = {
    "members.register": "steward",
    "roles.grant": "steward",
    "nodes.oversee": "steward",
    "tables.adopt": "steward",
    "challenges.record": "steward",
    "usage.dispute": "steward",
    "disputes.end": "steward",
    "nodes.register": "aurora",
    "nodes.manage": "aurora",
    "nodes.label": "aurora",
    "leases.manage": "lab",
    "backfills.manage": "operator",
}
"""Who of the demo community holds a permission; everyone holds the others."""

FEWEST_OK = 10
"""Operations of which at least one call must be answered with 200, so that more than refusals was tried."""


async def register_node(serving: Instance, owner: SigningKey, node: SigningKey, genesis: str) -> None:
    body = {
        "key": {"kid": node.kid, "x": node.public.x},
        "zone": "FR",
        "devices": [
            {
                "device": f"device/{identifier('test', 'gpu')}",
                "kind": "gpu",
                "model": "T4",
                "capacity": 1_000,
                "memory_mib": 16_384,
            }
        ],
        "cpu_milli": 16_000,
        "memory_mib": 65_536,
        "storage_bytes": 10**12,
        "bandwidth_bits_per_second": 10**9,
        "security_baseline": 1,
        "no_sensitive_data": True,
    }
    async with SignedClient(serving.url, owner.private) as client:
        response = await client.authorized("/v1/registry/nodes/register", "RegisterNode", body, genesis)
        assert response.status_code == 200, response.text


def test_no_call_to_any_route_ends_in_a_5xx_and_most_of_them_authenticate(tmp_path: Path) -> None:
    with instance(tmp_path / "home") as serving:
        genesis = sha256(serving.found())
        node = derive_key(b"\x07" * 32, "fuzzed node")
        asyncio.run(register_node(serving, serving.key("aurora"), node, genesis))

        def key_of(permission: str) -> Ed25519PrivateKey:
            if permission == "readings.record":
                return node.private
            return serving.key(HANDLES.get(permission, "orchid")).private

        found = run_signed(serving.url, key_of, genesis, max_examples=8)
        assert len(found) >= 40, sorted(found)
        reached = [label for label, calls in found.items() if calls.statuses[200]]
        assert len(reached) >= FEWEST_OK, {label: dict(calls.statuses) for label, calls in found.items()}
