"""Register a node: the terms, the minimums, and one active device network-wide (METERING "What can be pooled")."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from events.genesis import Community
from events.registry import Device, Embodied, NodeActivated, NodeRegistered, NodeSuspended
from events.registry_terms import DeviceKind
from events.values import INT64_MAX, is_reference, node_id
from services.kernel.decider import Context, Decision, Emit
from services.kernel.errors import InvalidField
from services.registry.commands import RegisterNode
from services.registry.decide.guards import founded, known_member, permitted, plain_text
from services.registry.decide.minimums import meet_minimums, window_hours
from services.registry.errors import DeviceRepeated, TermsNotAccepted, TooManyDevices, UnknownZone
from services.registry.keys import fresh_key
from services.registry.state import Directory, suspension

MOST_DEVICES: Final = 64
SECURITY_BASELINE: Final = 1
"""The version of the security baseline an owner accepts."""

_ZONE: Final = re.compile(r"[A-Z]{2}(?:-[A-Z0-9]{1,8}){0,3}\Z")
_PUE_MILLI: Final = range(1_000, 10_001)
_WHOLE_GPU_MILLI: Final = 1_000
_GRAMS: Final = range(10**9 + 1)
_LIFETIME_HOURS: Final = range(8_760, 876_001)


def register_node(command: RegisterNode, state: Directory, context: Context) -> Decision:
    """Lend the actor's node. Raises the refusals of its terms, its form, its minimums, and KeyInUse.

    Claiming a device another node claims is not refused: nobody can tell yet who is right, so both are suspended.
    """
    community = founded(state)
    permitted(state, context, "nodes.register")
    owner = known_member(state, context.actor).member
    if not command.no_sensitive_data or command.security_baseline != SECURITY_BASELINE:
        raise TermsNotAccepted(
            f"a node joins under security baseline {SECURITY_BASELINE} and takes no sensitive data",
            security_baseline=SECURITY_BASELINE,
        )
    _well_formed(command)
    _zone_known(command.zone, community)
    _distinct(command.devices)
    _single(command)
    meet_minimums(community.resources, command)
    node = node_id(fresh_key(command.key, state))
    fact = _registered(node, owner, command)
    facts = [Emit(node, fact), *_disputes(fact, state)]
    disputed = len(facts) > 1
    if not disputed and not must_be_challenged(community, command.devices):
        facts.append(Emit(node, NodeActivated(node)))
    status = "suspended" if disputed else "active" if len(facts) > 1 else "registered"
    return Decision(tuple(facts), {"node": node, "status": status})


def must_be_challenged(community: Community, devices: Sequence[Device]) -> bool:
    """Tell whether a node must pass challenges before it is active: only GPUs have benchmarks to run."""
    return community.metering.challenge_first and any(device.kind == "gpu" for device in devices)


def _disputes(fact: NodeRegistered, state: Directory) -> Iterator[Emit]:
    """Suspend the newcomer and every earlier claimant, once per device in dispute."""
    for device in fact.devices:
        claimants = sorted(state.devices.get(device.device, frozenset()))
        name = suspension("duplicate-device", device.device)
        for node in claimants:
            if name not in state.nodes[node].suspensions:
                yield Emit(node, NodeSuspended(node, "duplicate-device", device.device))
        if claimants:
            yield Emit(fact.node, NodeSuspended(fact.node, "duplicate-device", device.device))


def _well_formed(command: RegisterNode) -> None:
    if not _ZONE.match(command.zone):
        raise InvalidField("zone must be a country or grid zone like FR or US-CAL-CISO", field="zone")
    if command.pue_milli is not None and command.pue_milli not in _PUE_MILLI:
        raise InvalidField("pue_milli must lie in 1000..10000", field="pue_milli")
    for field in ("cpu_milli", "memory_mib", "storage_bytes", "bandwidth_bits_per_second"):
        if not 0 <= getattr(command, field) <= INT64_MAX:
            raise InvalidField(f"{field} must be a count from 0 on", field=field)
    window_hours(command.window)
    plain_text(command.label, "label")
    if command.embodied is not None:
        _embodied_stated(command.embodied)


def _embodied_stated(embodied: Embodied) -> None:
    if embodied.grams_co2e not in _GRAMS:
        raise InvalidField("grams_co2e must lie in 0..1000000000", field="embodied")
    if embodied.lifetime_hours not in _LIFETIME_HOURS:
        raise InvalidField("lifetime_hours must lie in 8760..876000: 1 to 100 years", field="embodied")
    plain_text(embodied.source, "source", least=1)


def _zone_known(zone: str, community: Community) -> None:
    zones = {factor.zone for factor in community.metering.carbon_factors or ()}
    if zones and zone not in zones:
        raise UnknownZone(f"there is no carbon factor for the grid zone {zone}", zone=zone)


def _distinct(devices: Sequence[Device]) -> None:
    if len(devices) > MOST_DEVICES:
        raise TooManyDevices(f"a node has at most {MOST_DEVICES} devices", limit=MOST_DEVICES, stated=len(devices))
    seen: set[str] = set()
    for device in devices:
        if not is_reference(device.device, "device"):
            raise InvalidField("a device is named device/<32 hex digits>, a keyed hash of its UUID", field="devices")
        if device.device in seen:
            raise DeviceRepeated(f"{device.device} stands twice in this node", device=device.device)
        seen.add(device.device)
        plain_text(device.model, "model", least=1)
        _whole(device.kind, device)


def _single(command: RegisterNode) -> None:
    """Refuse a second device of a kind of which a node has one, and one whose capacity is not what the node states."""
    stated = {
        "cpu": command.cpu_milli,
        "storage": command.storage_bytes,
        "bandwidth": command.bandwidth_bits_per_second,
    }
    for kind, amount in stated.items():
        found = [device for device in command.devices if device.kind == kind]
        if len(found) > 1:
            raise DeviceRepeated(f"a node has one device of kind {kind} at most", kind=kind)
        if found and found[0].capacity != amount:
            raise InvalidField(f"the device of kind {kind} has the capacity that the node states", field="capacity")


def _whole(kind: DeviceKind, device: Device) -> None:
    if kind == "gpu" and device.capacity != _WHOLE_GPU_MILLI:
        raise InvalidField("a gpu has the capacity 1000: milli shares of one whole device", field="capacity")
    if not 0 < device.capacity <= INT64_MAX or not 0 <= device.memory_mib <= INT64_MAX:
        raise InvalidField("capacity must be above 0, memory_mib at least 0", field="capacity")


def _registered(node: str, owner: str, command: RegisterNode) -> NodeRegistered:
    return NodeRegistered(
        node=node,
        owner=owner,
        key=command.key,
        zone=command.zone,
        devices=command.devices,
        cpu_milli=command.cpu_milli,
        memory_mib=command.memory_mib,
        window=command.window,
        security_baseline=command.security_baseline,
        no_sensitive_data=True,
        authorization=command.authorization,
        storage_bytes=command.storage_bytes,
        bandwidth_bits_per_second=command.bandwidth_bits_per_second,
        pue_milli=command.pue_milli,
        label=command.label,
        embodied=command.embodied or msgspec.UNSET,
    )
