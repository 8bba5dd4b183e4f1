"""Reads `community.yaml`: strict YAML into the genesis document, every problem listed with its path.

Strict means: duplicate keys, floats, anchors, tags and unknown fields are refused; `true`, `false`, `null` and plain
decimal integers are the only scalars that are no text (YAML 1.1 would read `no`, `1:30` and `010` as something else).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

import msgspec
from msgspec import inspect

from events.genesis import Community, GenesisRefused, PerformanceTable
from events.registry_terms import PublicKey
from infra.strict_yaml import parse

Derive = Callable[[str], PublicKey]
"""Returns the key that follows from the operator's key and a name."""

DERIVED: Final = "derived"
SHIPPED: Final = "shipped"
MOST_BYTES: Final = 1_048_576


def demo_yaml() -> bytes:
    """Return the bytes of the worked example that ships with the software."""
    return _packaged("demo.yaml")


def shipped_table(name: str = "infer-1") -> PerformanceTable:
    """Return a performance table that ships with the software; raises GenesisRefused when there is none so named."""
    problems: list[str] = []
    table = _convert(_shipped(name, "table", problems), PerformanceTable, problems)
    assert isinstance(table, PerformanceTable)
    return table


def read_community(raw: bytes, derive: Derive | None = None) -> Community:
    """Return the document in `raw`. Raises GenesisRefused with every problem of its form.

    `derive` supplies the keys written as `derived`: a member's from its handle, others from `log/<n>`, `service/<n>`.
    Whether the document is sound as a whole is the registry's to judge (`services.registry.genesis.check`).
    """
    if len(raw) > MOST_BYTES:
        raise GenesisRefused([f"the file has {len(raw)} bytes, at most {MOST_BYTES} are read"])
    problems: list[str] = []
    document = _filled(parse(raw, problems), derive, problems)
    community = _convert(document, Community, problems)
    assert isinstance(community, Community)
    return community


def _convert(document: Any, kind: type[msgspec.Struct], problems: list[str]) -> msgspec.Struct:
    _Form(problems).check(document, inspect.type_info(kind), "")
    if problems:
        raise GenesisRefused(problems)
    try:
        return msgspec.convert(document, kind, strict=True)
    except msgspec.ValidationError as error:
        raise GenesisRefused([str(error)]) from error


def _filled(document: Any, derive: Derive | None, problems: list[str]) -> Any:
    """Return the document with derived keys and shipped tables in their places."""
    if not isinstance(document, dict):
        return document
    filled = dict(document)
    for path, holder, name in _derived(filled):
        if derive is None:
            problems.append(f"{path}: no key to derive from here; write the member's own public key")
            continue
        key = msgspec.to_builtins(derive(name))
        holder(key)
    tables = filled.get("performance_tables")
    if isinstance(tables, list):
        filled["performance_tables"] = [
            _table(table, f"performance_tables[{index}]", problems) for index, table in enumerate(tables)
        ]
    return filled


def _derived(document: dict[str, Any]) -> Iterator[tuple[str, Callable[[Any], None], str]]:
    """Yield each place where `derived` stands for a key: its path, how to fill it, the name it derives from."""
    for index, member in enumerate(_listed(document, "members")):
        if isinstance(member, dict) and member.get("key") == DERIVED:
            yield f"members[{index}].key", _setter(member, "key"), str(member.get("handle"))
    for section, name in (("log_keys", "log"), ("service_keys", "service")):
        keys = _listed(document, section)
        for index, key in enumerate(keys):
            if key == DERIVED:
                yield f"{section}[{index}]", _setter(keys, index), f"{name}/{index}"


def _listed(document: dict[str, Any], section: str) -> list[Any]:
    found = document.get(section)
    return found if isinstance(found, list) else []


def _setter(holder: Any, place: Any) -> Callable[[Any], None]:
    def fill(value: Any) -> None:
        holder[place] = value

    return fill


def _table(table: Any, path: str, problems: list[str]) -> Any:
    if isinstance(table, dict) and set(table) == {SHIPPED}:
        return _shipped(str(table[SHIPPED]), path, problems)
    return table


def _shipped(name: str, path: str, problems: list[str]) -> Any:
    known = sorted(
        entry.name.removesuffix(".yaml")
        for entry in files("infra").joinpath("genesis").iterdir()
        if entry.name.endswith(".yaml") and entry.name != "demo.yaml"
    )
    if name not in known:
        raise GenesisRefused(
            [f"{path}.{SHIPPED}: no table {name[:80]!r} ships with this software{_nearest(name, known)}"]
        )
    return parse(_packaged(f"{name}.yaml"), problems)


def _packaged(name: str) -> bytes:
    return files("infra").joinpath("genesis", name).read_bytes()


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"


@dataclass(frozen=True, slots=True)
class _Form:
    """Walks a document beside its type and lists everything that does not fit, not only the first."""

    problems: list[str] = field(default_factory=list)

    def check(self, value: Any, kind: inspect.Type, path: str) -> None:
        if isinstance(kind, inspect.UnionType):
            kinds = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
            if value is not None or len(kinds) == len(kind.types):
                self.check(value, kinds[0], path)
        elif isinstance(kind, inspect.StructType):
            self._struct(value, kind, path)
        elif isinstance(kind, inspect.VarTupleType):
            self._list(value, kind, path)
        else:
            self._scalar(value, kind, path)

    def _struct(self, value: Any, kind: inspect.StructType, path: str) -> None:
        if not isinstance(value, dict):
            self._say(path, f"expected fields with names, found {_found(value)}")
            return
        fields = {one.encode_name: one for one in kind.fields}
        for name, item in value.items():
            if name not in fields:
                self._say(_at(path, name), f"unknown field{_nearest(name, list(fields))}")
            else:
                self.check(item, fields[name].type, _at(path, name))
        for name, one in fields.items():
            if one.required and name not in value:
                self._say(_at(path, name), "missing")

    def _list(self, value: Any, kind: inspect.VarTupleType, path: str) -> None:
        if not isinstance(value, list):
            self._say(path, f"expected a list, found {_found(value)}")
            return
        for index, item in enumerate(value):
            self.check(item, kind.item_type, f"{path}[{index}]")

    def _scalar(self, value: Any, kind: inspect.Type, path: str) -> None:
        if isinstance(kind, inspect.LiteralType):
            if value not in kind.values or isinstance(value, bool):
                self._say(path, f"{value!r} is not one of {', '.join(map(str, kind.values))}")
        elif isinstance(kind, inspect.BoolType):
            if not isinstance(value, bool):
                self._say(path, f"expected true or false, found {_found(value)}")
        elif isinstance(kind, inspect.IntType):
            if isinstance(value, bool) or not isinstance(value, int):
                self._say(path, f"expected a whole number without quotes, found {_found(value)}")
        elif isinstance(kind, inspect.StrType) and not isinstance(value, str):
            quotes = "; write it in quotes" if isinstance(value, int) and not isinstance(value, bool) else ""
            self._say(path, f"expected text, found {_found(value)}{quotes}")

    def _say(self, path: str, sentence: str) -> None:
        self.problems.append(f"{path or 'the document'}: {sentence}")


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _found(value: Any) -> str:
    if isinstance(value, dict):
        return "fields with names"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None else repr(value)[:80]
