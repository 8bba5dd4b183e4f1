"""Brings this machine into the pool: its node key is made here, its owner's signature registers it."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import httpx
import msgspec

from events.registry import Embodied
from events.values import identifier
from infra.agent.hardware import Hardware
from infra.agent.home import AgentHome, AgentRefused, Identity
from infra.api import ApiRefused, HttpApi
from infra.keys import SigningKey

SECURITY_BASELINE: Final = 1
HOURS_PER_YEAR: Final = 8_760
VIEW_WAITS_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 0.0)
"""Pauses before the view is asked again for a founding it may not show yet; the last try has none."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the owner states about the node: where it stands, when it is there, how well it is cooled, its label.

    And what nobody can see from inside: how many GB (10^9 bytes) it lends to hold, how many Mbit/s to carry, and what
    making the machine emitted.
    """

    zone: str
    label: str = ""
    from_hour: int = 0
    to_hour: int = 24
    pue_milli: int | None = None
    storage_gb: int = 0
    bandwidth_mbit: int = 0
    embodied: Embodied | None = None

    @property
    def storage_bytes(self) -> int:
        """What is lent to hold, in bytes."""
        return self.storage_gb * 10**9

    @property
    def bits_per_second(self) -> int:
        """What is lent to carry, in bits per second."""
        return self.bandwidth_mbit * 10**6


def embodied_of(kilograms: str | None, years: int | None, source: str | None) -> Embodied | None:
    """Return what making a machine emitted, of all three or of none; a year has 8,760 hours. Raises AgentRefused."""
    if kilograms is None and years is None and source is None:
        return None
    if kilograms is None or years is None or not source:
        raise AgentRefused("what making the machine emitted is stated whole: kilograms, years of life, and a source")
    if not re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,3})?", kilograms, re.ASCII):
        raise AgentRefused(f"{kilograms} is no weight in kilograms: write it like 1283 or 1283.5")
    return Embodied(int(Decimal(kilograms) * 1_000), years * HOURS_PER_YEAR, source)


async def genesis_of(server: str, public_url: str) -> str:
    """Return the hash of the community's founding document; one that was founded just now is waited for.

    Raises AgentRefused when nothing answers, or nothing is founded.
    """
    for wait in VIEW_WAITS_SECONDS:
        try:
            async with HttpApi(server, public_url, "") as api:
                first = await api.view("/v1/views/audit_trail/registry/1")
        except httpx.TransportError as error:
            raise AgentRefused(f"nothing answers at {server}: set COMMONS_AGENT_SERVER") from error
        except ApiRefused as error:
            if error.status != httpx.codes.NOT_FOUND or not wait:
                raise AgentRefused(f"there is no community to join at {server}: {error}") from error
            await asyncio.sleep(wait)
        else:
            return str(json.loads(first["record"])["data"]["sha256"])
    raise AssertionError


def registration_body(home: AgentHome, hardware: Hardware, terms: Terms) -> dict[str, Any]:
    """Return the body of `RegisterNode` for this machine."""
    body: dict[str, Any] = {
        "key": msgspec.to_builtins(home.key.public),
        "zone": terms.zone,
        "devices": hardware.devices(terms.storage_bytes, terms.bits_per_second),
        "cpu_milli": hardware.cpu_milli,
        "memory_mib": hardware.memory_mib,
        "window": {"from_hour": terms.from_hour, "to_hour": terms.to_hour},
        "security_baseline": SECURITY_BASELINE,
        "no_sensitive_data": True,
        "label": terms.label,
    }
    stated = {
        "storage_bytes": terms.storage_bytes or None,
        "bandwidth_bits_per_second": terms.bits_per_second or None,
        "pue_milli": terms.pue_milli,
        "embodied": None if terms.embodied is None else msgspec.to_builtins(terms.embodied),
    }
    return body | {name: value for name, value in stated.items() if value is not None}


async def register(
    home: AgentHome, hardware: Hardware, terms: Terms, owner: SigningKey | None, server: str, public_url: str
) -> tuple[Identity, str]:
    """Register this machine under its owner; return who it is now and its status. The same again changes nothing.

    Without an owner's key it must be registered already: a wallet, or a key elsewhere, signed the body then.

    Raises AgentRefused and ApiRefused.
    """
    genesis = await genesis_of(server, public_url)
    node = home.key.node
    async with HttpApi(server, public_url, genesis) as api:
        known = await _known(api, node)
        if known is None:
            if owner is None:
                raise AgentRefused(
                    f"{node} is not registered: name the owner's key with --owner-key FILE, or use --print"
                )
            step = identifier("commons.agent.register", genesis, node)
            body = registration_body(home, hardware, terms)
            answer = await api.authorised(owner, "RegisterNode", "/v1/registry/nodes/register", body, step)
            status, member = str(answer["status"]), owner.member
        else:
            status, member = str(known["status"]), str(known["owner"])
    gpus = tuple(gpu.device for gpu in hardware.gpus)
    identity = Identity(node, genesis, member, public_url, hardware.cpu_device, hardware.cpu_milli, gpus)
    home.keep_identity(identity)
    return identity, status


async def _known(api: HttpApi, node: str) -> Any:
    """Return the node as the view shows it, None when it is not there (yet)."""
    try:
        found = await api.view(f"/v1/views/nodes/{node}")
    except ApiRefused as error:
        if error.status == httpx.codes.NOT_FOUND:
            return None
        raise
    return found if found.get("owner") else None
