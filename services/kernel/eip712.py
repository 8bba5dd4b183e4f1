"""EIP-712 struct hashing, pure: types as wallets write them, values as JSON gives them.

Values: integers for `uintN` and `intN`, booleans, texts for `string`, `0x` hex for `address`, `bytes` and `bytesN`,
arrays and objects. Every member a type names must be there and no other: a wallet shows exactly what is hashed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from events.values import ValueRefused
from services.kernel.ethereum import ADDRESS_BYTES, keccak256

Types = Mapping[str, Sequence[Mapping[str, str]]]
"""Struct name to its members in order, each `{"name": ..., "type": ...}`."""

DOMAIN: Final = "EIP712Domain"
DOMAIN_MEMBERS: Final = {
    "name": "string",
    "version": "string",
    "chainId": "uint256",
    "verifyingContract": "address",
    "salt": "bytes32",
}
"""The members of a domain in the order EIP-712 gives them; those that are absent are left out of the type."""

_WORD: Final = 32
_DEEPEST: Final = 16
_INTEGER: Final = re.compile(r"(u?)int([0-9]+)\Z")
_FIXED: Final = re.compile(r"bytes([0-9]+)\Z")
_ARRAY: Final = re.compile(r"(.+)\[([0-9]*)\]\Z")
_HEX: Final = re.compile(r"0x(?:[0-9a-fA-F]{2})*\Z")


def typed_digest(types: Types, primary: str, domain: Mapping[str, Any], message: Mapping[str, Any]) -> bytes:
    """Return the 32 bytes a wallet signs: Keccak of 0x1901, domain separator, struct hash. Raises ValueRefused."""
    return keccak256(b"\x19\x01" + domain_separator(domain) + struct_hash(types, primary, message))


def domain_type(domain: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the type of a domain: those of the five members that it has. Raises ValueRefused for any other."""
    if strange := set(domain) - set(DOMAIN_MEMBERS):
        raise ValueRefused(f"a domain has no member {min(strange)[:60]!r}")
    return [{"name": name, "type": kind} for name, kind in DOMAIN_MEMBERS.items() if name in domain]


def domain_separator(domain: Mapping[str, Any]) -> bytes:
    """Return the hash that ties a signature to one application. Raises ValueRefused."""
    return struct_hash({DOMAIN: domain_type(domain)}, DOMAIN, domain)


def encode_type(types: Types, primary: str) -> str:
    """Return `Name(type member,...)` with the structs it refers to after it, sorted by name. Raises ValueRefused."""
    seen: set[str] = set()
    waiting = [primary]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(base for member in _members(types, name) if (base := _base(member["type"])) in types)
    return "".join(_one_type(types, name) for name in (primary, *sorted(seen - {primary})))


def struct_hash(types: Types, primary: str, value: Mapping[str, Any]) -> bytes:
    """Return hashStruct: Keccak of the type's hash and the encoded members. Raises ValueRefused."""
    return _struct(_Structs(types), primary, value, primary, 0)


@dataclass(slots=True)
class _Structs:
    """The structs of one message, with each type's hash made once however often its values stand there."""

    types: Types
    hashes: dict[str, bytes] = field(default_factory=dict)

    def type_hash(self, name: str) -> bytes:
        """Return typeHash of a struct."""
        found = self.hashes.get(name)
        if found is None:
            found = self.hashes[name] = keccak256(encode_type(self.types, name).encode())
        return found


def _struct(structs: _Structs, name: str, value: Any, path: str, depth: int) -> bytes:
    members = _members(structs.types, name)
    names = [member["name"] for member in members]
    if depth > _DEEPEST:
        raise ValueRefused(f"{path}: more than {_DEEPEST} levels")
    if not isinstance(value, Mapping) or set(value) != set(names) or len(names) != len(set(names)):
        raise ValueRefused(f"{path}: must have exactly the members {' '.join(names) or '(none)'}")
    encoded = [
        _encode(structs, member["type"], value[member["name"]], f"{path}.{member['name']}", depth) for member in members
    ]
    return keccak256(structs.type_hash(name) + b"".join(encoded))


def _encode(structs: _Structs, kind: str, value: Any, path: str, depth: int) -> bytes:
    """Return the 32 bytes of one member: structs and arrays by their parts, everything else as it is."""
    if kind in structs.types:
        return _struct(structs, kind, value, path, depth + 1)
    if match := _ARRAY.match(kind):
        return _array(structs, match, value, path, depth)
    return _atom(kind, value, path)


def _atom(kind: str, value: Any, path: str) -> bytes:
    if kind == "string":
        _demand(isinstance(value, str), path, "a text")
        return keccak256(value.encode())
    if kind == "bytes":
        return keccak256(_raw(value, path))
    if kind == "bool":
        _demand(isinstance(value, bool), path, "true or false")
        return int(value).to_bytes(_WORD, "big")
    if kind == "address":
        raw = _raw(value, path)
        _demand(len(raw) == ADDRESS_BYTES, path, "an address of 20 bytes")
        return raw.rjust(_WORD, b"\0")
    if match := _INTEGER.match(kind):
        return _integer(int(match[2]), value, path, signed=not match[1])
    if match := _FIXED.match(kind):
        return _fixed(int(match[1]), value, path)
    raise ValueRefused(f"{path}: there is no type {kind[:60]!r}")


def _array(structs: _Structs, match: re.Match[str], value: Any, path: str, depth: int) -> bytes:
    _demand(isinstance(value, list | tuple), path, "an array")
    _demand(not match[2] or len(value) == int(match[2]), path, f"an array of {match[2]}")
    items = (_encode(structs, match[1], item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value))
    return keccak256(b"".join(items))


def _integer(bits: int, value: Any, path: str, *, signed: bool) -> bytes:
    _demand(0 < bits <= 8 * _WORD and bits % 8 == 0, path, "of an integer type of 8 to 256 bits")
    low, high = (-(1 << bits - 1), 1 << bits - 1) if signed else (0, 1 << bits)
    _demand(isinstance(value, int) and not isinstance(value, bool) and low <= value < high, path, "an integer in range")
    return int(value).to_bytes(_WORD, "big", signed=signed)


def _fixed(length: int, value: Any, path: str) -> bytes:
    _demand(0 < length <= _WORD, path, "of a type from bytes1 to bytes32")
    raw = _raw(value, path)
    _demand(len(raw) == length, path, f"exactly {length} bytes")
    return raw.ljust(_WORD, b"\0")


def _raw(value: Any, path: str) -> bytes:
    _demand(isinstance(value, str) and bool(_HEX.match(value)), path, "0x and hex digits")
    return bytes.fromhex(value[2:])


def _demand(holds: bool, path: str, what: str) -> None:  # noqa: FBT001 - the condition itself
    if not holds:
        raise ValueRefused(f"{path}: must be {what}")


def _members(types: Types, name: str) -> Sequence[Mapping[str, str]]:
    if name not in types:
        raise ValueRefused(f"there is no struct {name[:60]!r}")
    return types[name]


def _one_type(types: Types, name: str) -> str:
    members = ",".join(f"{member['type']} {member['name']}" for member in types[name])
    return f"{name}({members})"


def _base(kind: str) -> str:
    return kind.partition("[")[0]
