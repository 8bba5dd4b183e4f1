"""The repository as data: files, modules, classes, imports and links, read without running anything."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PACKAGES: Final = ("events", "services", "projections", "infra", "contracts")

_LINK: Final = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING: Final = re.compile(r"^#{1,6}\s+(.*?)\s*$", re.MULTILINE)
_FENCE: Final = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Module:
    """A Python file of the repository."""

    path: Path

    @property
    def name(self) -> str:
        """The dotted name it is imported by."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def where(self) -> str:
        """The path from the repository's root."""
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        """The source."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """The parsed source."""
        return ast.parse(self.text, self.where)

    @cached_property
    def aliases(self) -> dict[str, str]:
        """What each imported name of the file stands for, dotted."""
        found: dict[str, str] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
        return found

    def imports(self) -> Iterator[str]:
        """Yield every module this one may import, `from a import b` as both `a` and `a.b`."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def names_used(self) -> Iterator[tuple[int, str]]:
        """Yield line and dotted name of everything mentioned, aliases resolved."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Attribute | ast.Name) and (dotted := _dotted(node)):
                first, _, rest = dotted.partition(".")
                yield node.lineno, ".".join(filter(None, (self.aliases.get(first, first), rest)))

    def functions(self) -> Iterator[tuple[str, int]]:
        """Yield name and length in lines of every function."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node.name, (node.end_lineno or node.lineno) - node.lineno + 1

    def classes(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield name and bases (last part of each) of every class."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ClassDef):
                yield node.name, tuple((_dotted(base) or "").rpartition(".")[2] for base in node.bases)


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (inner := _dotted(node.value)):
        return f"{inner}.{node.attr}"
    return None


def modules(*folders: str) -> list[Module]:
    """Return the Python files under these folders of the repository."""
    return [
        Module(path)
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "__pycache__" not in path.parts
    ]


def documents() -> list[Path]:
    """Return every Markdown file that belongs to the repository."""
    skipped = {".venv", ".uv", "var", "build", "dist", "node_modules"}
    return [
        path
        for path in sorted(ROOT.rglob("*.md"))
        if not any(part in skipped or part.startswith(".") for part in path.relative_to(ROOT).parts[:-1])
    ]


def links(document: Path) -> list[str]:
    """Return the targets of a document's links, those in code left out."""
    return _LINK.findall(_FENCE.sub("", document.read_text(encoding="utf-8")))


def anchors(document: Path) -> set[str]:
    """Return the anchors a reader of the document may be sent to (GitHub's rule for headings)."""
    headings = _HEADING.findall(_FENCE.sub("", document.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def words(name: str) -> list[str]:
    """Return the words of a CamelCase name."""
    return re.findall(r"[A-Z][a-z0-9]*|[A-Z]+(?![a-z])", name)


def kebab(name: str) -> str:
    """Return a CamelCase name as it stands in a type name."""
    return "-".join(word.lower() for word in words(name))
