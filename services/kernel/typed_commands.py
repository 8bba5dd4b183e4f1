"""A command as EIP-712 typed data, so that a wallet shows what it signs, field by field (docs/decisions, "wallets").

The typed message **is** the command: `nonce` and every field of the route's body that is set, under the field's own
name. The types follow from the body's pydantic model and from which fields are set, so the signature covers the whole
body and nothing has to be hashed beside it. Texts are `string`, integers `int64`, booleans `bool`, nested models
structs named for their class without `Body`, arrays arrays, and a mapping of texts an array of `Entry(string
name,string value)` sorted by name.
"""

from __future__ import annotations

import types as python_types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec
import pydantic

from events.genesis import chain_of
from events.values import ValueRefused
from services.kernel.directory import Directory
from services.kernel.eip712 import DOMAIN, domain_type, typed_digest
from services.kernel.errors import AuthenticationFailed, InvalidField
from services.kernel.ethereum import recover

VERSION: Final = "1"
"""Version of the domain: another one means another way to make the types."""

NONCE: Final = "nonce"
POSSESSION: Final = "WalletPossession"

_ENTRY: Final = [{"name": "name", "type": "string"}, {"name": "value", "type": "string"}]
_POSSESSION: Final = [
    {"name": "subject", "type": "string"},
    {"name": "wallet", "type": "address"},
    {"name": "replaces", "type": "string"},
]

TypedData = dict[str, Any]
"""`types`, `primaryType`, `domain` and `message`, exactly what a wallet's `eth_signTypedData_v4` takes."""


def wallet_domain(directory: Directory) -> dict[str, Any]:
    """Return the community's EIP-712 domain; raises AuthenticationFailed before it is founded."""
    community = directory.community
    if community is None:
        raise AuthenticationFailed("no community is founded here yet: there is nothing a wallet could sign")
    chain = chain_of(community)
    return {
        "name": community.name,
        "version": VERSION,
        "chainId": chain.chain_id,
        "verifyingContract": chain.contract,
        "salt": f"0x{directory.genesis_sha256}",
    }


def typed_command(
    domain: Mapping[str, Any], name: str, model: type[pydantic.BaseModel], body: Mapping[str, Any], nonce: str
) -> TypedData:
    """Return the typed data of a command, for a wallet to sign. Raises InvalidField for a body of another form."""
    message = {NONCE: nonce, **_to_message(model, body)}
    return _data(domain, name, command_types(name, model, message), message)


def possession_statement(domain: Mapping[str, Any], subject: str, wallet: str, replaces: str = "") -> TypedData:
    """Return what a wallet signs to show that somebody holds its key and wants it to sign for `subject`."""
    message = {"subject": subject, "wallet": wallet, "replaces": replaces}
    return _data(domain, POSSESSION, {POSSESSION: _POSSESSION}, message)


def digest(data: Mapping[str, Any]) -> bytes:
    """Return the 32 bytes to sign. Raises InvalidField."""
    try:
        return typed_digest(data["types"], data["primaryType"], data["domain"], data["message"])
    except ValueRefused as error:
        raise InvalidField(f"eip712: {error}") from error


def signed_text(data: Mapping[str, Any], signature: str) -> str:
    """Return the canonical JSON of typed data with its signature: what stands in a fact, for anyone to verify."""
    return msgspec.json.encode({**data, "signature": signature}, order="sorted").decode()


def signer_of(text: str) -> str:
    """Return the address that signed a fact's text, from nothing but the text. Raises AuthenticationFailed."""
    try:
        data = msgspec.json.decode(text)
        return recover(digest(data), data["signature"])
    except (KeyError, TypeError, msgspec.DecodeError) as error:
        raise AuthenticationFailed("this is no signed typed data") from error


def command_types(name: str, model: type[pydantic.BaseModel], message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the structs of a command's message. Raises InvalidField where it does not fit the model."""
    shape = _Shape()
    shape.look(model, {key: value for key, value in message.items() if key != NONCE}, "")
    made: dict[str, Any] = {name: [{"name": NONCE, "type": "string"}, *shape.members(model)]}
    for struct in sorted(shape.present, key=_struct_name):
        if struct is not model:
            assert _struct_name(struct) not in made, struct
            made[_struct_name(struct)] = shape.members(struct)
    return made | ({"Entry": _ENTRY} if shape.entries else {})


def read_body(model: type[pydantic.BaseModel], message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body a message stands for: the same fields, arrays of entries as mappings. Raises InvalidField."""
    return {
        name: _from_entries(value, f"/{name}") if _is_mapping(model, name) else value
        for name, value in message.items()
        if name != NONCE
    }


@dataclass(slots=True)
class _Shape:
    """Which fields of which models are set in one message; a struct has one type, so all its values set the same."""

    present: dict[type[pydantic.BaseModel], set[str]] = field(default_factory=dict)
    entries: bool = False

    def look(self, model: type[pydantic.BaseModel], value: Any, pointer: str) -> None:
        """Note the fields of one value and of what lies in it."""
        if not isinstance(value, Mapping):
            raise InvalidField(f"{pointer or '/'}: must be an object")
        if strange := [name for name in value if name not in model.model_fields]:
            raise InvalidField(f"{pointer}/{str(strange[0])[:60]}: there is no such field")
        if self.present.setdefault(model, set(value)) != set(value):
            raise InvalidField(f"{pointer}: every {_struct_name(model)} of one command must set the same fields")
        for name, inner in value.items():
            if inner is None:
                raise InvalidField(f"{pointer}/{name}: typed data knows no null; leave the field out")
            self._look_into(_plain(model.model_fields[name].annotation), inner, f"{pointer}/{name}")

    def _look_into(self, kind: Any, value: Any, pointer: str) -> None:
        if _is_model(kind):
            self.look(kind, value, pointer)
        elif get_origin(kind) is dict:
            self.entries = True
        elif get_origin(kind) in {list, tuple}:
            if not isinstance(value, list | tuple):
                raise InvalidField(f"{pointer}: must be an array")
            inner = _plain(get_args(kind)[0])
            if not value and _is_model(inner):
                raise InvalidField(f"{pointer}: an empty array of structs has no type; leave the field out")
            for index, item in enumerate(value):
                self._look_into(inner, item, f"{pointer}/{index}")

    def members(self, model: type[pydantic.BaseModel]) -> list[dict[str, str]]:
        """Return a struct's members: the model's fields in its order, as far as they are set."""
        return [
            {"name": name, "type": type_name(_plain(info.annotation))}
            for name, info in model.model_fields.items()
            if name in self.present[model]
        ]


def type_name(kind: Any) -> str:
    """Return the EIP-712 name of a field's type; asserts that there is one."""
    if _is_model(kind):
        return _struct_name(kind)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {list, tuple}:
        assert origin is list or arguments[1:] == (...,), kind
        return f"{type_name(_plain(arguments[0]))}[]"
    if origin is dict:
        assert arguments == (str, str), kind
        return "Entry[]"
    if origin is Literal:
        kind = type(arguments[0])
    names: dict[Any, str] = {str: "string", int: "int64", bool: "bool"}
    assert kind in names, f"{kind} has no EIP-712 type: give the body plainer fields"
    return names[kind]


def _data(domain: Mapping[str, Any], name: str, made: Mapping[str, Any], message: Mapping[str, Any]) -> TypedData:
    return {
        "types": {DOMAIN: domain_type(domain), **made},
        "primaryType": name,
        "domain": dict(domain),
        "message": dict(message),
    }


def _to_message(model: type[pydantic.BaseModel], body: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: [{"name": key, "value": value[key]} for key in sorted(value)]
        if isinstance(value, Mapping) and _is_mapping(model, name)
        else value
        for name, value in body.items()
    }


def _from_entries(value: Any, pointer: str) -> dict[str, Any]:
    pairs = list(_pairs(value, pointer))
    names = [name for name, _ in pairs]
    if names != sorted(set(names)):
        raise InvalidField(f"{pointer}: entries are sorted by name, each name once")
    return dict(pairs)


def _pairs(value: Any, pointer: str) -> Iterator[tuple[str, Any]]:
    for entry in value if isinstance(value, list) else [None]:
        if not isinstance(entry, Mapping) or set(entry) != {"name", "value"} or not isinstance(entry["name"], str):
            raise InvalidField(f"{pointer}: must be an array of entries with name and value")
        yield entry["name"], entry["value"]


def _is_mapping(model: type[pydantic.BaseModel], name: str) -> bool:
    info = model.model_fields.get(name)
    return info is not None and get_origin(_plain(info.annotation)) is dict


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, pydantic.BaseModel)


def _struct_name(model: type[pydantic.BaseModel]) -> str:
    return model.__name__.removesuffix("Body")


def _plain(annotation: Any) -> Any:
    """Return an annotation without `Annotated` and without `| None`."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in {Union, python_types.UnionType}:
        (kind,) = (argument for argument in get_args(annotation) if argument is not type(None))
        return _plain(kind)
    return annotation
