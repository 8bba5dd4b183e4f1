"""House rules, read off the repository itself (STYLE "House rules as a test"). A rule that needs luck is no rule."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import events.bus
import events.store
import events.telemetry
import projections.catalog
import projections.store
import services.kernel.errors
import services.kernel.nonces
import services.kernel.subject_keys
import services.metering.heartbeats
from events.envelope import Fact
from events.facts import FACTS_BY_SERVICE
from infra import settings
from infra.schemas import FOLDER
from services.kernel.errors import CommonsError, Refusal
from services.kernel.problems import status_of
from services.kernel.roles import ROLES
from tests.golden.make import RECORDS
from tests.source import PACKAGES, ROOT, Module, anchors, documents, kebab, links, modules, words

OURS: Final = modules(*PACKAGES)
TESTS: Final = modules("tests")
SERVICES: Final = sorted(path.name for path in (ROOT / "services").iterdir() if (path / "__init__.py").exists())
DOMAINS: Final = [name for name in SERVICES if name != "kernel"]

FUNCTION_LINES: Final = 50
FILE_LINES: Final = 300
SUITE_LINES: Final = 400
"""Tests may be longer: the cases of one rule stand together."""

LONG_FILES: Final = {
    "events/metering.py": "one service's facts stand together, each a few lines",
    "events/registry.py": "one service's facts stand together, each a few lines",
    "events/treasury.py": "one service's facts stand together, each a few lines",
    "services/kernel/directory.py": "one value and its fold, one short function per fact of the registry",
    "tests/contract/test_store.py": "the promises of the store, whole in one suite",
    "tests/flow/test_bad_input.py": "everything bad that can arrive, on one running instance",
    "tests/test_tidy.py": "all house rules in one place",
}
"""Files over the limit, each with its reason."""

FOREIGN_NAMES: Final = {"tests/contract/test_library_recorders.py": "the eventsourcing library named its tests"}

IRREGULAR: Final = frozenset(
    ["Begun", "Built", "Drawn", "Held", "Kept", "Lent", "Lost", "Met", "Paid", "Put", "Sent", "Spent", "Withheld"]
)

BANNED: Final = {
    "datetime.datetime.now": "the clock is passed in",
    "datetime.datetime.utcnow": "the clock is passed in",
    "datetime.datetime.today": "the clock is passed in",
    "datetime.date.today": "the clock is passed in",
    "time.time": "the clock is passed in",
    "time.time_ns": "the clock is passed in",
    "uuid.uuid1": "ids are derived",
    "uuid.uuid4": "ids are derived",
    "secrets.token_bytes": "chance is passed in",
    "secrets.token_hex": "chance is passed in",
    "os.environ": "settings are passed in",
    "os.getenv": "settings are passed in",
    "os.urandom": "chance is passed in",
}
"""Names that only `infra` may mention, and what the others do instead."""

SERVICE_FILES: Final = ("README.md", "service.py", "commands.py", "state.py", "errors.py", "policies.py", "api.py")

ENTRY_POINTS: Final = {
    "infra.cli": "the `commons` command",
    "infra.cli.__main__": "python -m infra.cli",
    "infra.background": "make up, down, logs",
    "infra.schemas": "make check, make schemas",
    "infra.genesis_schema": "make schemas",
    "infra.asyncapi": "make check, make schemas",
    "infra.kafka.broker": "a native Kafka, for tests and for trying things out",
    "infra.memory": "the store without a database, for tests of rules",
    "infra.memory_views": "views without a database, for tests of rules",
    "infra.wallet": "for scripts of people who act with a wallet, and for tests",
    "infra.sample.generate": "makes the shipped sample; run by hand",
    "contracts": "holds the place of the on-chain sources",
}
"""Modules nothing imports, each with who runs them."""

PORTS: Final = (
    events.store.Store,
    events.bus.Bus,
    projections.store.ViewStore,
    services.kernel.nonces.Nonces,
    services.kernel.subject_keys.SubjectKeys,
    services.metering.heartbeats.Heartbeats,
    events.telemetry.TraceNotes,
)
"""Ports whose promises are written once, as suites in tests/contract that every adapter has to pass."""


def problems(found: Iterator[str] | list[str]) -> str:
    return "\n".join(found)


# --- sizes and names ---------------------------------------------------------------------------------------------


def test_a_function_fits_on_a_screen() -> None:
    assert not problems(
        f"{module.where}: {name} has {lines} lines"
        for module in OURS + TESTS
        for name, lines in module.functions()
        if lines > FUNCTION_LINES
    )


def test_a_file_over_the_limit_has_a_reason() -> None:
    lines = {module.where: module.text.count("\n") for module in OURS + TESTS}
    over = [where for where in lines if lines[where] > (SUITE_LINES if where.startswith("tests/") else FILE_LINES)]
    assert not problems(f"{where} has {lines[where]} lines" for where in over if where not in LONG_FILES)
    assert not problems(f"{where} needs no reason any more" for where in LONG_FILES if where not in over)


def test_no_file_is_a_drawer_for_everything() -> None:
    drawers = re.compile(r"(^|_)(utils?|helpers?|common|managers?|misc)(_|$)")
    everything = [path for package in (*PACKAGES, "tests") for path in (ROOT / package).rglob("*")]
    assert not problems(
        str(path) for path in everything if drawers.search(path.stem) and "__pycache__" not in str(path)
    )


def test_every_package_and_module_says_what_it_is() -> None:
    folders = {module.path.parent for module in OURS}
    assert not problems(f"{folder} has no __init__.py" for folder in folders if not (folder / "__init__.py").exists())
    assert not problems(f"{module.where} has no docstring" for module in OURS if not ast.get_docstring(module.tree))


def test_the_name_of_a_test_is_a_sentence() -> None:
    assert not problems(
        f"{module.where}: {name}"
        for module in TESTS
        for name, _ in module.functions()
        if name.startswith("test_") and len(name.split("_")) < 4 and module.where not in FOREIGN_NAMES
    )


def test_every_make_target_says_what_it_does() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.MULTILINE)
    assert phony
    targets = phony[1].split()
    assert {"setup", "run", "test", "check", "soak", "crash", "interop", "bench", "up", "down", "logs", "clean"} <= {
        *targets
    }
    assert [name for name in targets if not re.search(rf"^{name}:.*## \S", text, re.MULTILINE)] == []


# --- facts and commands ------------------------------------------------------------------------------------------


def fact_classes() -> list[type[Fact]]:
    for module in modules("events"):
        importlib.import_module(module.name)
    return [kind for kind in subclasses(Fact) if kind.__module__.startswith("events.")]


def subclasses(kind: type[Any]) -> list[type[Any]]:
    return [found for child in kind.__subclasses__() for found in (child, *subclasses(child))]


def test_every_fact_has_one_owner_a_schema_and_golden_bytes() -> None:
    owned = Counter(fact for facts in FACTS_BY_SERVICE.values() for fact in facts)
    kinds = fact_classes()
    assert not problems(f"{kind.__name__} has {owned[kind]} owners" for kind in kinds if owned[kind] != 1)
    for folder in (FOLDER, RECORDS):
        assert not problems(
            f"no {kind.TYPE}.json in {folder}" for kind in kinds if not (folder / f"{kind.TYPE}.json").exists()
        )
    assert not problems(
        f"{fact.TYPE} is not named for {service}"
        for service, facts in FACTS_BY_SERVICE.items()
        for fact in facts
        if not fact.TYPE.startswith(f"{service}.")
    )


def test_a_fact_is_named_in_the_past_tense_and_its_type_after_it() -> None:
    kinds = fact_classes()
    assert not problems(
        f"{kind.__name__} does not end in a past participle"
        for kind in kinds
        if not (words(kind.__name__)[-1].endswith("ed") or words(kind.__name__)[-1] in IRREGULAR)
    )
    assert not problems(
        f"{kind.__name__} is published as {kind.TYPE}"
        for kind in kinds
        if kind.TYPE.partition(".")[2].rpartition(".v")[0] != kebab(kind.__name__)
    )


def commands() -> list[tuple[str, str]]:
    return [
        (module.where, name)
        for domain in DOMAINS
        for module in modules(f"services/{domain}")
        for name, bases in module.classes()
        if "Command" in bases
    ]


def test_a_command_is_named_in_the_imperative() -> None:
    found = commands()
    assert found
    nouns = r"(ed|ing|tion|ment|ness|ity)$"
    assert not problems(f"{where}: {name}" for where, name in found if re.search(nouns, words(name)[0]))
    assert not problems(f"{where}: {name} has no object" for where, name in found if len(words(name)) < 2)


def test_commands_stand_in_the_file_of_that_name() -> None:
    assert not problems(f"{where}: {name}" for where, name in commands() if not where.endswith("/commands.py"))


# --- services, errors, routes, adapters --------------------------------------------------------------------------


@pytest.mark.parametrize("service", DOMAINS)
def test_every_service_has_the_same_file_names(service: str) -> None:
    folder = ROOT / "services" / service
    missing = [name for name in SERVICE_FILES if not (folder / name).exists()]
    if not (folder / "decide.py").exists() and not (folder / "decide" / "__init__.py").exists():
        missing.append("decide.py or decide/")
    assert missing == []
    readme = (folder / "README.md").read_text().lower()
    assert [part for part in ("owns", "does not own", "invariants") if part not in readme] == []


def errors() -> list[type[CommonsError]]:
    """Return every error of ours that a caller may be told; modules are imported until no new one shows up."""
    for module in OURS:
        if re.search(r"^from services\.kernel\.errors import", module.text, re.MULTILINE):
            importlib.import_module(module.name)
    return [
        kind
        for kind in subclasses(CommonsError)
        if kind.__module__.partition(".")[0] in PACKAGES and not kind.__name__.startswith("_")
    ]


def test_every_error_has_a_status_and_every_refusal_a_name_of_its_own() -> None:
    kinds = errors()
    assert not problems(f"{kind.__name__} has no status" for kind in kinds if status_of(kind) == 500)
    slugs = Counter(kind.slug for kind in kinds if "slug" in vars(kind))
    assert [slug for slug, count in slugs.items() if count > 1] == []
    refusals = [kind for kind in kinds if issubclass(kind, Refusal)]
    assert not problems(
        f"{kind.__module__}.{kind.__name__} has no {part} of its own"
        for kind in refusals
        for part in ("slug", "title", "__doc__")
        if not vars(kind).get(part)
    )


def test_every_error_of_the_kernel_stands_in_the_tree_at_the_top_of_its_file() -> None:
    module = services.kernel.errors
    names = [
        name for name, kind in vars(module).items() if inspect.isclass(kind) and kind.__module__ == module.__name__
    ]
    assert [name for name in names if not re.search(rf"\b{name}\b", module.__doc__ or "")] == []


@pytest.mark.parametrize("service", DOMAINS)
def test_every_route_names_a_permission_that_exists_and_a_path_of_its_service(service: str) -> None:
    routes = importlib.import_module(f"services.{service}.api").routes()
    assert routes
    assert not problems(f"{route.path} needs {route.permission!r}" for route in routes if route.permission not in ROLES)
    assert not problems(f"{route.path} is open to anyone" for route in routes if route.permission == "public")
    assert not problems(route.path for route in routes if not route.path.startswith(f"/v1/{service}/"))
    assert [name for name, count in Counter(route.name for route in routes).items() if count > 1] == []


def test_every_query_names_a_permission_that_exists_and_a_path_of_a_view() -> None:
    unused: Any = object()  # routes are values: their readers are only called when a query comes
    routes = projections.catalog.routes(unused, unused, unused)
    assert not problems(f"{route.path} needs {route.permission!r}" for route in routes if route.permission not in ROLES)
    assert not problems(route.path for route in routes if not route.path.startswith("/v1/views/"))
    names = Counter(name for route in routes for name in (route.name, route.path))
    assert [name for name, count in names.items() if count > 1] == []


def adapters(port: type[Any]) -> list[str]:
    """Return the classes of `infra` that have all methods of a port: those are its adapters, whatever they say."""
    promised = {
        (name, *inspect.signature(value).parameters)
        for name, value in vars(port).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }
    return [
        node.name
        for module in modules("infra")
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef) and promised <= set(methods(node))
    ]


def methods(node: ast.ClassDef) -> Iterator[tuple[str, ...]]:
    """Yield name and parameters of every method."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef):
            named = part.args
            arguments = [*named.posonlyargs, *named.args, named.vararg, *named.kwonlyargs, named.kwarg]
            yield (part.name, *(each.arg for each in arguments if each))


@pytest.mark.parametrize("port", PORTS, ids=lambda port: port.__name__)
def test_every_adapter_is_in_its_ports_contract_suite(port: type[Any]) -> None:
    text = "".join(module.text for module in modules("tests/contract"))
    known = adapters(port)
    assert known, "no adapter at all"
    assert [name for name in known if not re.search(rf"\b{name}\b", text)] == []


# --- purity and life ---------------------------------------------------------------------------------------------


def test_clock_chance_and_environment_are_read_in_infra_only() -> None:
    assert not problems(
        f"{module.where}:{line}: {name}: {BANNED[name]}"
        for module in OURS
        if not module.where.startswith("infra/")
        for line, name in module.names_used()
        if name in BANNED
    )


def floats(module: Module) -> Iterator[int]:
    """Yield the lines on which a float is written, named or made (`/` makes one even of integers)."""
    for node in ast.walk(module.tree):
        constant = isinstance(node, ast.Constant) and isinstance(node.value, float)
        named = isinstance(node, ast.Name) and node.id == "float"
        if constant or named or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)):
            yield node.lineno  # type: ignore[attr-defined]


def test_no_float_enters_facts_states_or_decisions() -> None:
    ports = {"events/store.py", "events/bus.py"}  # they name waiting times in seconds, which nothing keeps
    core = modules("events", *(f"services/{name}" for name in DOMAINS))
    assert not problems(
        f"{module.where}:{line}" for module in core if module.where not in ports for line in floats(module)
    )


def test_no_module_is_dead() -> None:
    imported = {name for module in OURS for name in module.imports() if module.name != name}
    unused = [m for m in OURS if m.name not in imported and m.path.name != "__init__.py"]
    assert not problems(
        f"{module.where} is imported by nothing" for module in unused if module.name not in ENTRY_POINTS
    )
    names = {module.name for module in OURS}
    assert not problems(f"{name} does not exist" for name in ENTRY_POINTS if name not in names)


def test_long_crash_tests_stand_where_make_crash_looks() -> None:
    assert not problems(
        module.where
        for module in TESTS
        if "mark.crash" in module.text and not module.where.startswith(("tests/crash/", "tests/test_tidy"))
    )


# --- documents ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_of_a_document_resolves(document: Path) -> None:
    broken = []
    for link in links(document):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_table_of_settings_is_the_one_of_the_code() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    rows = dict(re.findall(r"^\| `(COMMONS_[A-Z_]+)` \| `([^`]*)` \|", text, re.MULTILINE))
    assert rows == {setting.name: setting.default for setting in settings.SETTINGS}
    mentioned = set(re.findall(r"COMMONS_[A-Z_]*[A-Z]", text)) - {"COMMONS_TEST_DATABASE", "COMMONS_TEST_KAFKA"}
    secrets = {f"{setting.name}_FILE" for setting in settings.SETTINGS if setting.secret}
    assert mentioned - set(rows) - secrets == set()


def test_every_decision_names_files_that_enforce_it() -> None:
    decisions = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
    assert [path.name[:4] for path in decisions] == [f"{number:04d}" for number in range(1, len(decisions) + 1)]
    for path in decisions:
        text = path.read_text()
        for heading in ("## Context", "## Decision", "## Consequences", "## Enforced by"):
            assert heading in text, f"{path.name} lacks {heading}"
        named = re.findall(r"`([\w./-]+/[\w./-]+)`", text.partition("## Enforced by")[2])
        assert named, path.name
        assert [name for name in named if not (ROOT / name).exists()] == [], path.name
        assert text.count("\n") <= 60, f"{path.name} is longer than a page"
