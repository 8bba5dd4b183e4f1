"""`commons doctor`: a fault is put in for every check there is, and the check tells it and what to do."""

from __future__ import annotations

import asyncio
import inspect
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from infra.doctor import Check, examine
from infra.keys import KeyDirectory
from infra.platform import open_platform
from infra.settings import read_settings
from projections.catalog import views
from tests import last_release
from tests.faults import FAULTS, Fault, Sound, of_views
from tests.instance import Instance

ALL = (*FAULTS, *of_views([view.name for view in views()]))
ALWAYS = {"release gate"}
"""Told of every instance of this version, sound or not: there is no anchor yet."""
Found = dict[str, Check]


def rounds() -> list[list[Fault]]:
    """Divide the faults so that no check has two at once, and what breaks the folding of facts comes alone."""
    made: list[list[Fault]] = []
    for fault in ALL:
        alone = fault.check.startswith(("records of registry", "records of treasury", "the book", "versions"))
        fits = next((each for each in made if not alone and all(fault.check != other.check for other in each)), None)
        if fits is None or alone:
            made.insert(0, [fault]) if not alone else made.append([fault])
        else:
            fits.append(fault)
    return made


async def _examined(home: Path, database: str, faults: list[Fault]) -> Found:
    last_release.keys(home)
    last_release.pour(database)
    for name in ("operator", "acknowledgements"):
        KeyDirectory(home).secret(name)
    settings = read_settings({"COMMONS_HOME": str(home), "COMMONS_DATABASE": database})
    with pytest.MonkeyPatch.context() as patch:
        async with open_platform(settings, database) as platform:
            for view in platform.views:
                await platform.versions.make(view)
            for fault in faults:
                done = fault.seed(Sound(home, database, platform, patch))
                if inspect.isawaitable(done):
                    await done
            return {check.name: check for check in await examine(platform, lambda *_told: None)}


@pytest.fixture(scope="module")
def databases(postgres_dsn: str) -> Iterator[list[str]]:
    """Addresses of databases that are empty, one per round and one more."""
    names = [f"doctor_{secrets.token_hex(8)}" for _ in range(len(rounds()) + 1)]
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        for name in names:
            admin.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    yield [urlunsplit(urlsplit(postgres_dsn)._replace(path=f"/{name}")) for name in names]
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        for name in names:
            admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture(scope="module")
def sound(databases: list[str], tmp_path_factory: pytest.TempPathFactory) -> Found:
    return asyncio.run(_examined(tmp_path_factory.mktemp("sound") / "home", databases[0], []))


@pytest.fixture(scope="module")
def told(databases: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[Fault, Found]:
    """What the doctor said of each fault."""
    made: dict[Fault, Found] = {}
    for database, faults in zip(databases[1:], rounds(), strict=True):
        found = asyncio.run(_examined(tmp_path_factory.mktemp("faulty") / "home", database, faults))
        made |= dict.fromkeys(faults, found)
    return made


def test_every_check_has_a_fault_that_shows_it_and_a_sound_home_shows_none(sound: Found) -> None:
    assert {fault.check for fault in ALL} == set(sound) - ALWAYS
    assert [check for check in sound.values() if check.verdict == "broken"] == []
    for fault in ALL:
        assert fault.words not in sound[fault.check].detail or fault.check in {"disk", "clock"}


@pytest.mark.parametrize("fault", ALL, ids=lambda fault: f"{fault.check}: {fault.words}")
def test_a_fault_is_told_by_its_check_with_what_to_do(fault: Fault, told: dict[Fault, Found]) -> None:
    check = told[fault][fault.check]
    assert check.verdict == fault.verdict, check
    assert fault.words in check.detail
    assert check.fix


def test_a_home_that_cannot_be_opened_is_looked_at_as_far_as_it_goes(database: str, tmp_path: Path) -> None:
    instance = Instance(tmp_path / "home", extra={"COMMONS_DATABASE": database})
    last_release.keys(instance.home)
    (instance.home / "keys" / "inputs.key").chmod(0o644)
    done = instance.commons("doctor", "--json")
    assert done.returncode == 1, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert "inputs.key" in checks["permissions"]["detail"]
    assert checks["start"]["verdict"] == "broken"
    assert "inputs.key" in checks["start"]["detail"]
