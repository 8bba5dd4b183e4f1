"""The schemas of facts as AsyncAPI 3.0 takes them: draft-07 words, definitions in one shared room. Pure.

AsyncAPI's own schema language is a superset of JSON Schema draft-07; every tool reads it, while a dialect of its own
per schema is read by few. What msgspec writes in draft 2020-12 has the same meaning under other names there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from infra.schemas import Schema

ROOM: Final = "#/components/schemas/"
_DEFS: Final = "#/$defs/"
_BY_NAME: Final = ("properties",)
_AS_IT_IS: Final = ("enum", "const", "default", "required", "examples")


def definitions(type_name: str, schema: Schema) -> dict[str, Schema]:
    """Return every struct of a fact's schema in draft-07, by a name that no other type's struct has."""
    return {_named(type_name, name): _draft_07(each, type_name) for name, each in schema["$defs"].items()}


def top(type_name: str, schema: Schema) -> Schema:
    """Return the reference to the fact itself."""
    return {"$ref": ROOM + _named(type_name, schema["$ref"].removeprefix(_DEFS))}


def _named(type_name: str, struct: str) -> str:
    return f"{type_name}.{struct}"


def _draft_07(schema: Any, type_name: str) -> Any:
    if not isinstance(schema, Mapping):
        return schema
    found: Schema = {}
    for key, value in schema.items():
        found.update(_keyword(key, value, schema, type_name))
    if "$ref" in found and len(found) > 1:  # draft-07 reads nothing beside a reference
        reference = {"$ref": found.pop("$ref")}
        return {"allOf": [reference], **found}
    return found


def _keyword(key: str, value: Any, schema: Mapping[str, Any], type_name: str) -> Schema:
    """Return what one keyword of draft 2020-12 is in draft-07."""
    if key in _AS_IT_IS:
        return {key: value}
    if key == "$ref":
        assert value.startswith(_DEFS), value
        return {key: ROOM + _named(type_name, value.removeprefix(_DEFS))}
    if key in _BY_NAME:
        return {key: {name: _draft_07(each, type_name) for name, each in value.items()}}
    inside = [_draft_07(each, type_name) for each in value] if isinstance(value, list) else _draft_07(value, type_name)
    return {_renamed(key, schema): inside}


def _renamed(key: str, schema: Mapping[str, Any]) -> str:
    """Tuples are `items` and `additionalItems` in draft-07, where later drafts say `prefixItems` and `items`."""
    if key == "prefixItems":
        return "items"
    return "additionalItems" if key == "items" and "prefixItems" in schema else key
