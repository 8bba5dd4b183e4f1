"""Whether a schema still reads, and writes again, every record of an older one. Pure; see `infra.schemas`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]

_PROSE = frozenset({"$schema", "$id", "$defs", "title", "description", "default", "examples"})
"""Keywords that change no byte of a record."""

_READ_HERE = frozenset({"properties", "required", "enum", "anyOf", "items", "prefixItems", "additionalProperties"})
"""Keywords compared by their meaning; all others must be equal."""


def breaks(old: Schema, new: Schema) -> Iterator[str]:
    """Yield one line per way in which records of `old` do not survive under `new`; the path names the field."""
    yield from _compare(old, new, old.get("$defs", {}), new.get("$defs", {}), "data")


def _compare(old: Any, new: Any, old_defs: Schema, new_defs: Schema, path: str) -> Iterator[str]:
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        if old != new:
            yield f"{path}: was {old!r}, is {new!r}"
        return
    old, new = _resolved(old, old_defs), _resolved(new, new_defs)
    rest_old, rest_new = _plain(old), _plain(new)
    if rest_old != rest_new:
        yield f"{path}: another type: was {rest_old}, is {rest_new}"
        return
    yield from _words(old, new, path)
    yield from _fields(old, new, old_defs, new_defs, path)
    for keyword in ("items", "additionalProperties"):
        if keyword in old or keyword in new:
            inner = f"{path}[]" if keyword == "items" else f"{path}{{}}"
            yield from _compare(old.get(keyword), new.get(keyword), old_defs, new_defs, inner)
    for keyword in ("anyOf", "prefixItems"):
        yield from _lists(old.get(keyword, ()), new.get(keyword, ()), old_defs, new_defs, f"{path}.{keyword}")


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    """Return what a reference stands for; keywords beside it are prose."""
    while "$ref" in schema:
        schema = definitions[schema["$ref"].rpartition("/")[2]]
    return schema


def _plain(schema: Schema) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key not in _PROSE | _READ_HERE}


def _words(old: Schema, new: Schema, path: str) -> Iterator[str]:
    if "enum" not in old and "enum" not in new:
        return
    if "enum" not in old:
        yield f"{path}: any value was allowed, now only {new['enum']}"
    elif "enum" in new and (gone := [word for word in old["enum"] if word not in new["enum"]]):
        yield f"{path}: no longer allows {gone}"


def _fields(old: Schema, new: Schema, old_defs: Schema, new_defs: Schema, path: str) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    for name in before:
        if name in after:
            yield from _compare(before[name], after[name], old_defs, new_defs, f"{path}.{name}")
        else:
            yield f"{path}.{name}: removed or renamed"
    for name in after:
        if name not in before:
            kind = "required" if name in new.get("required", ()) else "optional"
            # Records are written with every field, so even an optional one changes what old data encodes to.
            yield f"{path}.{name}: added ({kind}): make a new version"
    for name in new.get("required", ()):
        if name in before and name not in old.get("required", ()):
            yield f"{path}.{name}: was optional, is required"
    kept = [name for name in after if name in before]
    if kept != [name for name in before if name in after]:
        yield f"{path}: fields stand in another order: was {list(before)}, is {list(after)}"


def _lists(old: Any, new: Any, old_defs: Schema, new_defs: Schema, path: str) -> Iterator[str]:
    if len(old) != len(new):
        yield f"{path}: had {len(old)} alternatives or elements, has {len(new)}"
        return
    for index, (one, two) in enumerate(zip(old, new, strict=True)):
        yield from _compare(one, two, old_defs, new_defs, f"{path}[{index}]")
