"""A founded community for the registry's tests: named keys, members by handle, nodes in one line."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from events.genesis import Community, MeteringRules, Minimums, Resources
from events.registry import Device, Window
from events.registry_terms import PublicKey
from events.values import member_id, node_id
from infra.genesis_file import demo_yaml, read_community
from services.kernel.jws import public_key, raw_public
from services.registry import commands
from services.registry.genesis import FOUNDER
from services.registry.service import service
from services.registry.state import Directory
from tests.spec import Spec


def private(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def key(name: str) -> PublicKey:
    return public_key(raw_public(private(name)))


def member(handle: str) -> str:
    return member_id(raw_public(private(handle)))


def node(name: str) -> str:
    return node_id(raw_public(private(name)))


def device(name: str) -> str:
    return f"device/{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def gpu(name: str, **other: Any) -> Device:
    fields: dict[str, Any] = {"device": device(name), "kind": "gpu", "model": "T4", "capacity": 1_000}
    return Device(**{**fields, "memory_mib": 15_360, **other})


def community(**changes: Any) -> Community:
    return msgspec.structs.replace(read_community(demo_yaml(), key), **changes)


def with_metering_minimums(**metering: Any) -> Community:
    """The demo with METERING's own minimums."""
    offered = ("gpu", "cpu", "storage", "bandwidth")
    return community(
        resources=Resources(offered=offered, minimums=Minimums()),  # type: ignore[arg-type]
        metering=MeteringRules(**metering),
    )


def registration(name: str, devices: Sequence[Device] | None = None, **other: Any) -> commands.RegisterNode:
    fields: dict[str, Any] = {
        "key": key(name),
        "zone": "FR",
        "devices": (gpu(f"{name}-gpu"),) if devices is None else tuple(devices),
        "cpu_milli": 8_000,
        "memory_mib": 16_384,
        "window": Window(),
        "security_baseline": 1,
        "no_sensitive_data": True,
        "authorization": f"jws-of-{name}",
    }
    return commands.RegisterNode(**{**fields, **other})


class World:
    """A registry after its founding; `state` is what it folded to."""

    def __init__(self, document: Community | None = None) -> None:
        self.spec = Spec(service())
        self.document = document or community()
        self.spec.when(commands.FoundCommunity(self.document), FOUNDER)

    @property
    def state(self) -> Directory:
        folded: Directory = self.spec.state
        return folded

    def when(self, command: Any, handle: str) -> list[Any]:
        """What the command of that member comes to; raises the refusal."""
        return list(self.spec.when(command, member(handle)))

    def joins(self, name: str, devices: Sequence[Device] | None = None, owner: str = "aurora", **other: Any) -> str:
        """Register a node and return its id."""
        self.when(registration(name, devices, **other), owner)
        return node(name)

    def status(self, name: str) -> str:
        return self.state.nodes[node(name)].status
