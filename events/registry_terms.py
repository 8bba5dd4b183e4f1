"""Words the registry's facts and the genesis document share."""

from __future__ import annotations

from typing import Final, Literal

import msgspec

MemberKind = Literal["human", "agent", "organisation"]
Role = Literal["provider", "contributor", "steward", "board-member", "auditor", "operator"]
SizeClass = Literal["small", "medium", "large"]
GpuClass = Literal["train", "infer", "memory"]
DeviceKind = Literal["gpu", "cpu", "storage", "bandwidth"]
WorkClass = Literal["train", "infer", "memory", "cpu", "storage", "bandwidth"]
NodeStatus = Literal["registered", "verified", "active", "suspended", "retired"]
ProfileField = Literal["name", "contact_email", "legal_name", "about"]
SuspensionCause = Literal["duplicate-device", "failed-challenges", "steward", "owner"]


KINDS: Final[tuple[DeviceKind, ...]] = ("gpu", "cpu", "storage", "bandwidth")
"""The kinds in the order in which epochs page and settle them."""


class PublicKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An Ed25519 public key as an RFC 8037 key: `x` is base64url without padding of the 32 bytes.

    `kid` is the RFC 7638 thumbprint of {"crv":"Ed25519","kty":"OKP","x":...}, base64url.
    """

    kid: str
    x: str
    alg: Literal["EdDSA"] = "EdDSA"


class Wallet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An Ethereum account that signs for a member: its address in EIP-55 spelling.

    `possession` shows that somebody holds its key: canonical JSON of the EIP-712 typed data `WalletPossession`
    (subject, wallet, replaces) in the community's domain, with that wallet's `signature` beside it.
    """

    address: str
    possession: str
