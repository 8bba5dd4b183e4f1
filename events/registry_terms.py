"""Words the registry's facts and the genesis document share."""

from __future__ import annotations

from typing import Literal

import msgspec

MemberKind = Literal["human", "agent", "organisation"]
Role = Literal["provider", "contributor", "steward", "board-member", "auditor", "operator"]
SizeClass = Literal["small", "medium", "large"]
WorkClass = Literal["train", "infer", "memory"]
DeviceKind = Literal["gpu", "cpu", "storage", "bandwidth"]
NodeStatus = Literal["registered", "verified", "active", "suspended", "retired"]
SuspensionCause = Literal["duplicate-device", "failed-challenges", "steward", "owner"]


class PublicKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An Ed25519 public key as an RFC 8037 key: `x` is base64url without padding of the 32 bytes.

    `kid` is the RFC 7638 thumbprint of {"crv":"Ed25519","kty":"OKP","x":...}, base64url.
    """

    kid: str
    x: str
    alg: Literal["EdDSA"] = "EdDSA"
