"""An operator's evening on a database server of his own: rotate the key, erase, back up, restore elsewhere, go on."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from infra.genesis_file import demo_yaml, read_community
from infra.http.authorizations import authorize
from infra.key_ring import KeyRing
from infra.keys import KeyDirectory, SigningKey, derive_key
from services.registry.genesis import sha256
from services.registry.keys import possession_payload
from tests.caller import Caller, slug
from tests.instance import Instance

SEED = b"s" * 32
PROFILES = "/v1/registry/profiles"
GRANT = "/v1/registry/roles/grant"
ROTATE = "/v1/registry/keys/rotate"


def key_of(home: Path, handle: str) -> SigningKey:
    """A founder's key: the operator's is the home's, the others are their own and follow from nothing."""
    return KeyDirectory(home).signing("operator") if handle == "operator" else derive_key(SEED, "member", handle)


@dataclass
class Running:
    """An instance on a server, what it was founded with, and a second database that is empty."""

    instance: Instance
    genesis: str
    other: str

    def caller(self, handle: str, instance: Instance | None = None) -> Caller:
        key = key_of(self.instance.home, handle)
        return Caller((instance or self.instance).url, key, self.genesis)


@pytest.fixture(scope="module")
def databases(postgres_dsn: str) -> Iterator[tuple[str, str]]:
    names = [f"operator_{secrets.token_hex(8)}" for _ in range(2)]
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        for name in names:
            admin.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    parts = urlsplit(postgres_dsn)
    yield urlunsplit(parts._replace(path=f"/{names[0]}")), urlunsplit(parts._replace(path=f"/{names[1]}"))
    with psycopg.connect(postgres_dsn, autocommit=True) as admin:
        for name in names:
            admin.execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, databases: tuple[str, str]) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("server") / "home"
    instance = Instance(home, extra={"COMMONS_DATABASE": databases[0]})
    instance.start("up", "--single")
    try:
        document = read_community(demo_yaml(), lambda handle: key_of(home, handle).public)
        yield Running(instance, sha256(instance.found(document)), databases[1])
    finally:
        if instance.process is not None:
            instance.stop()


def test_the_operators_key_is_rotated_on_a_running_instance_and_the_old_one_signs_no_more(running: Running) -> None:
    instance = running.instance
    old, member = running.caller("operator"), KeyRing(instance.home).member()
    done = instance.commons("keys", "rotate", "operator", "--json")
    assert done.returncode == 0, done.stderr
    new = running.caller("operator")
    assert json.loads(done.stdout)["kid"] == new.key.kid != old.key.kid
    grant = {"member": key_of(instance.home, "lab").member, "role": "auditor"}
    late = old.authorized("GrantRole", GRANT, grant)
    assert (late.status_code, slug(late)) == (401, "authentication-failed")
    assert new.authorized("GrantRole", GRANT, grant).status_code == 200
    ring = KeyRing(instance.home)
    assert ring.member() == member, "the operator is who he was"
    assert [gone.kid for gone in ring.history("operator").retired] == [old.key.kid]
    assert not ring.has_draft("operator")
    for caller in (old, new):
        caller.close()


def test_a_key_change_by_a_stranger_is_refused(running: Running) -> None:
    """The command names no subject: it changes the signer's own key, and the new key names whose it shall be."""
    lab, steward = running.caller("lab"), running.caller("steward")
    new, stranger = derive_key(SEED, "stranger", "new"), derive_key(SEED, "stranger", "own")
    wanted = possession_payload(running.genesis, steward.key.member, steward.key.kid, new.kid)
    body = {"key": {"kid": new.kid, "x": new.public.x}, "possession": new.jws(wanted)}
    forged = authorize(stranger.private, stranger.kid, running.genesis, "RotateKey", body)
    foreign = authorize(lab.key.private, lab.key.kid, running.genesis, "RotateKey", body)
    unheld = body | {"possession": stranger.jws(wanted)}
    attempts = [
        lab.authorized("RotateKey", ROTATE, body),
        steward.command(ROTATE, forged),
        steward.command(ROTATE, foreign),
        steward.authorized("RotateKey", ROTATE, unheld),
    ]
    assert [(each.status_code, slug(each)) for each in attempts] == [(401, "authentication-failed")] * 4
    label = steward.authorized("GrantRole", GRANT, {"member": lab.key.member, "role": "board-member"})
    assert label.status_code == 200, "the steward's key is the one it was"
    for caller in (lab, steward):
        caller.close()


def seals(caller: Caller, texts: dict[str, str]) -> None:
    sealed = caller.command(f"{PROFILES}/seal", texts).json()["sealed"]
    done = caller.authorized("SealProfile", PROFILES, {"sealed": sealed})
    assert done.status_code == 200, done.text


def profile(caller: Caller, position: str) -> Any:
    answered = caller.view(f"/v1/views/profiles/{caller.key.member}", f"registry={position}")
    assert answered.status_code == 200, answered.text
    return answered.json()


def wait_until_erased(instance: Instance) -> None:
    deadline = time.monotonic() + 20
    while instance.commons("doctor").returncode:
        assert time.monotonic() < deadline, instance.log()
        time.sleep(0.2)


@pytest.mark.soak
def test_a_backup_and_the_key_stores_bring_back_whoever_was_not_erased(running: Running, tmp_path: Path) -> None:
    """Facts and keys are backed up apart; only both together open a profile, and never an erased one."""
    instance = running.instance
    ada, ben = running.caller("aurora"), running.caller("basalt")
    seals(ada, {"name": "Ada"})
    seals(ben, {"name": "Ben"})
    early = instance.json("keystore", "export", str(tmp_path / "keys"))["file"]
    erased = ada.authorized("EraseSubject", f"{PROFILES}/erase", {"member": ada.key.member})
    assert erased.status_code == 200, erased.text
    wait_until_erased(instance)
    archive = tmp_path / "facts.tar"
    held = instance.json("backup", str(archive))["manifest"]

    other = Instance(tmp_path / "home", extra={"COMMONS_DATABASE": running.other})
    restored = other.json("restore", str(archive))
    assert restored["heads"] == held["heads"]
    assert sorted(restored["equal_views"]) == sorted(held["views"])
    other.start("up", "--single")
    try:
        head, there = held["heads"]["registry"]["position"], running.caller("basalt", other)
        assert (profile(there, head)["status"], profile(there, head)["fields"]) == ("sealed", None)
        assert other.json("keystore", "import", early) == {"restored": 1}
        assert (profile(there, head)["status"], profile(there, head)["fields"]) == ("open", {"name": "Ben"})
        gone = running.caller("aurora", other)
        assert (profile(gone, head)["status"], profile(gone, head)["fields"]) == ("erased", None)
        assert other.json("doctor")["sound"]
    finally:
        other.stop()
    for caller in (ada, ben, there, gone):
        caller.close()


@pytest.mark.soak
def test_the_key_of_acknowledgements_is_rotated_between_two_runs_and_the_old_one_stays_published(
    running: Running,
) -> None:
    instance = running.instance
    old = KeyRing(instance.home).keys.signing("acknowledgements").kid
    refused = instance.commons("keys", "rotate", "acknowledgements")
    assert (refused.returncode, "stop it" in refused.stderr) == (1, True)
    instance.stop()
    new = instance.json("keys", "rotate", "acknowledgements")["kid"]
    instance.start("up", "--single")
    keys = httpx.get(f"{instance.url}/v1/keys", trust_env=False).json()["keys"]
    assert [key["kid"] for key in keys] == [new, old]
    assert [key.get("until") is not None for key in keys] == [False, True]


@pytest.mark.soak
def test_the_facts_alone_go_back_on_a_server_and_what_was_there_is_only_renamed(
    running: Running, tmp_path: Path
) -> None:
    instance, archive = running.instance, tmp_path / "facts.tar"
    held = instance.json("backup", str(archive))["manifest"]
    steward, member = running.caller("steward"), key_of(instance.home, "nettle").member
    assert steward.authorized("GrantRole", GRANT, {"member": member, "role": "auditor"}).status_code == 200
    steward.close()
    while any(row["position"] < row["head"] for row in instance.json("lag")["followers"]):
        pass
    busy = instance.commons("restore", str(archive), "--facts-only", "--force")
    assert "stop it first" in busy.stderr
    instance.stop()
    careful = instance.commons("restore", str(archive), "--facts-only")
    assert "1 of registry" in careful.stderr
    restored = instance.json("restore", str(archive), "--facts-only", "--force")
    assert restored["heads"] == held["heads"]
    started = instance.commons("up", "--single", timeout=60)
    assert started.returncode != 0
    assert "was rewound" in started.stderr
    assert "commons rebuild" in started.stderr
    instance.json("rebuild")
    checks = {check["name"]: check for check in instance.json("doctor")["checks"]}
    assert "registry_replaced_" in checks["database"]["detail"]
    assert {name for name, check in checks.items() if check["verdict"] == "broken"} == set()
