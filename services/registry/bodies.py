"""Request bodies of the registry's routes: form only, every rule stands in `decide`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from events.genesis import Benchmark, PerformanceTable, TableEntry
from events.registry import Device, Embodied, Window
from events.registry_terms import DeviceKind, MemberKind, PublicKey, Role, WorkClass
from services.kernel.routes import Body

Count = Annotated[int, Field(ge=0, le=2**53 - 1)]
Reference = Annotated[str, Field(max_length=80)]
Text = Annotated[str, Field(max_length=120)]
Cause = Literal["failed-challenges", "steward", "owner"]
SealedText = Annotated[str, Field(min_length=1, max_length=12_000, pattern=r"^[A-Za-z0-9_-]+$")]
Jws = Annotated[str, Field(max_length=8_192)]


class KeyBody(Body):
    """An Ed25519 public key, RFC 8037."""

    kid: Text
    x: Text
    alg: Literal["EdDSA"] = "EdDSA"

    def key(self) -> PublicKey:
        """Return the published form."""
        return PublicKey(self.kid, self.x, self.alg)


class WalletBody(Body):
    """A wallet: its address (EIP-55) and its EIP-712 signature of the statement of possession."""

    address: Annotated[str, Field(max_length=42, examples=["0x52908400098527886E0F7030069857D2E4169EE7"])]
    possession: Annotated[str, Field(max_length=132)]


class RegisterMemberBody(Body):
    """Who becomes a member: with a key, or with a wallet."""

    handle: Text
    kind: MemberKind
    key: KeyBody | None = None
    guild: Text | None = None
    wallet: WalletBody | None = None


class RoleBody(Body):
    """A member and a role."""

    member: Reference
    role: Role


class RotateKeyBody(Body):
    """The new key and its own JWS over the statement of possession."""

    key: KeyBody
    possession: Jws


class LinkKeyBody(Body):
    """A first Ed25519 key beside the caller's wallet, and the key's JWS over the statement of possession."""

    key: KeyBody
    possession: Jws


class LinkWalletBody(Body):
    """The wallet that shall sign for the caller from now on."""

    wallet: WalletBody


class UnlinkWalletBody(Body):
    """Which wallet of the caller's shall sign no longer."""

    address: Annotated[str, Field(max_length=42)]


class IssueApiKeyBody(Body):
    """The id and hash of a secret only the member knows; expiry in milliseconds UTC."""

    key_id: Text
    secret_sha256: Text
    expires_ms: Count
    label: Text = ""


class RevokeApiKeyBody(Body):
    """Which API key."""

    key_id: Text


class SealedFieldsBody(Body):
    """Sealed texts as `/v1/registry/profiles/seal` answered them; a field left out is not in the profile."""

    name: SealedText | None = None
    contact_email: SealedText | None = None
    legal_name: SealedText | None = None
    about: SealedText | None = None


class SealProfileBody(Body):
    """The whole profile, sealed: it replaces the one before it."""

    sealed: SealedFieldsBody


class ProfileBody(Body):
    """What a member says of itself as a person, to be sealed. It is answered sealed and kept nowhere."""

    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    contact_email: Annotated[str, Field(min_length=3, max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")] | None = None
    legal_name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    about: Annotated[str, Field(min_length=1, max_length=2_000)] | None = None


class EraseSubjectBody(Body):
    """Whose data to erase: the signer's own id, so that the signature says it."""

    member: Reference


class DeviceBody(Body):
    """One device; capacity in its kind's unit (gpu: 1000 milli shares)."""

    device: Reference
    kind: DeviceKind
    model: Text
    capacity: Count
    memory_mib: Count = 0


class WindowBody(Body):
    """Availability in whole hours UTC, half-open; 0..24 is always."""

    from_hour: Count = 0
    to_hour: Count = 24

    def window(self) -> Window:
        """Return the value the facts carry."""
        return Window(self.from_hour, self.to_hour)


class EmbodiedBody(Body):
    """What making the machine emitted: grams of CO2 equivalent over a lifetime in hours, and where that stands."""

    grams_co2e: Count
    lifetime_hours: Count
    source: Text

    def stated(self) -> Embodied:
        """Return the value the facts carry."""
        return Embodied(self.grams_co2e, self.lifetime_hours, self.source)


class RegisterNodeBody(Body):
    """A node and the terms its owner accepts."""

    key: KeyBody
    zone: Text
    devices: Annotated[list[DeviceBody], Field(max_length=256)]
    cpu_milli: Count
    memory_mib: Count
    security_baseline: Count
    no_sensitive_data: bool
    window: WindowBody = WindowBody()
    storage_bytes: Count = 0
    bandwidth_bits_per_second: Count = 0
    pue_milli: Count | None = None
    label: Text = ""
    embodied: EmbodiedBody | None = None

    def pooled(self) -> tuple[Device, ...]:
        """Return the devices as the facts carry them."""
        return tuple(
            Device(device.device, device.kind, device.model, device.capacity, device.memory_mib)
            for device in self.devices
        )


class NodeBody(Body):
    """Which node."""

    node: Reference


class SuspensionBody(Body):
    """Which node and which suspension."""

    node: Reference
    cause: Cause


class SettleDisputeBody(Body):
    """The disputed device and each claimant's signed answer to one challenge."""

    device: Reference
    answers: Annotated[list[Jws], Field(min_length=2, max_length=64)]


class StateWindowBody(Body):
    """Which node and its window from now on."""

    node: Reference
    window: WindowBody


class LabelNodeBody(Body):
    """Which node and its label."""

    node: Reference
    label: Text


class BenchmarkBody(Body):
    """One benchmark and the reference device's throughput, a decimal string per second."""

    name: Text
    throughput: Text


class TableEntryBody(Body):
    """A model's performance factor, a decimal string with up to 4 decimals."""

    model: Text
    performance_factor: Text


class AdoptTableBody(Body):
    """The next version of a class's table; in force from `effective_ms` on, or at once."""

    work_class: WorkClass
    version: Count
    reference_model: Text
    reference: Annotated[list[BenchmarkBody], Field(max_length=64)]
    entries: Annotated[list[TableEntryBody], Field(max_length=500)]
    effective_ms: Count | None = None

    def table(self) -> PerformanceTable:
        """Return the document the fact carries."""
        return PerformanceTable(
            work_class=self.work_class,
            version=self.version,
            reference_model=self.reference_model,
            reference=tuple(Benchmark(name=one.name, throughput=one.throughput) for one in self.reference),
            entries=tuple(
                TableEntry(model=one.model, performance_factor=one.performance_factor) for one in self.entries
            ),
        )
