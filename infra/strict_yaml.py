"""YAML without its surprises: text, whole numbers, true, false, null, lists and fields; nothing twice, no float."""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from events.genesis import GenesisRefused

_TAG: Final = "tag:yaml.org,2002:"
_FLOAT: Final = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
_INTEGER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,18})\Z")
_NUMBER: Final = re.compile(r"[-+]?[0-9][0-9_]*\Z")
_WORDS: Final[dict[str, Any]] = {"true": True, "false": False, "null": None, "~": None, "": None}


class _Loader(yaml.SafeLoader):
    """Composes nodes only: no implicit types, no aliases, nothing is constructed."""

    yaml_implicit_resolvers: dict[Any, Any] = {}  # noqa: RUF012 - the library's own class attribute, emptied

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are refused", mark)
        return super().compose_node(parent, index)


def parse(raw: bytes, problems: list[str]) -> Any:
    """Return the plain values in `raw`; adds what is refused to `problems`, each `path: sentence`.

    Raises GenesisRefused when the bytes are no YAML at all, or nested too deeply.
    """
    try:
        node = yaml.compose(raw.decode("utf-8"), _Loader)
        return None if node is None else _value(node, "", problems)
    except UnicodeDecodeError as error:
        raise GenesisRefused([f"the file is not UTF-8: {error}"]) from error
    except yaml.YAMLError as error:
        raise GenesisRefused([f"the file is not YAML we read: {' '.join(str(error).split())}"]) from error
    except RecursionError as error:
        raise GenesisRefused(["the file is nested too deeply"]) from error


def _value(node: yaml.Node, path: str, problems: list[str]) -> Any:
    if isinstance(node, yaml.MappingNode):
        return _fields(node, path, problems)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, f"{path}[{index}]", problems) for index, item in enumerate(node.value)]
    assert isinstance(node, yaml.ScalarNode), node
    return _scalar(node, path, problems)


def _fields(node: yaml.MappingNode, path: str, problems: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, item in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            problems.append(f"{path or 'the document'}: a field's name is no text (line {line})")
            continue
        name = str(key.value)
        here = f"{path}.{name}" if path else name
        if name in fields:
            problems.append(f"{here}: stands twice (again in line {line})")
        fields[name] = _value(item, here, problems)
    return fields


def _scalar(node: yaml.ScalarNode, path: str, problems: list[str]) -> Any:
    text: str = node.value
    if node.tag != f"{_TAG}str":
        problems.append(f"{path or 'the document'}: the tag {node.tag} is refused")
        return text
    if node.style is not None:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.match(text):
        return int(text)
    if _FLOAT.match(text):
        problems.append(f"{path or 'the document'}: {text} is a float; write decimal numbers in quotes")
    elif _NUMBER.match(text):
        problems.append(f"{path or 'the document'}: {text} is not a plain whole number; write it without +, _ or zeros")
    return text
