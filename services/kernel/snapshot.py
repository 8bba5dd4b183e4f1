"""A folded state as bytes and back: msgpack, with persistent maps as lists of pairs. Only ever our own bytes."""

from __future__ import annotations

from typing import Any, TypeVar, get_args, get_origin

import msgspec
from immutables import Map

S = TypeVar("S")


def freeze(state: Any) -> bytes:
    """Return the bytes of a state made of dataclasses, structs, tuples and `immutables.Map`."""
    return msgspec.msgpack.encode(state, enc_hook=_pairs)


def thaw(raw: bytes, kind: type[S]) -> S:
    """Return the state in `raw`; raises msgspec.ValidationError when it has another layout."""
    return msgspec.msgpack.decode(raw, type=kind, dec_hook=_mapping)


def _pairs(value: Any) -> Any:
    if isinstance(value, Map):
        return list(value.items())
    raise NotImplementedError(f"{type(value)} cannot be part of a state")


def _mapping(kind: type[Any], value: Any) -> Any:
    if get_origin(kind) is not Map:
        raise NotImplementedError(f"{kind} cannot be part of a state")
    key, item = get_args(kind)
    return Map(msgspec.convert(value, list[tuple[key, item]], dec_hook=_mapping))  # type: ignore[valid-type]
