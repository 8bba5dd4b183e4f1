"""An erasure on a real instance: afterwards no file of the home holds the plain text or a key that opens it."""

from __future__ import annotations

import asyncio
import json
import mmap
import tarfile
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import asyncpg  # type: ignore[import-untyped]
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from events.sealing import Place, SealRefused, open_text
from infra.keys import KeyDirectory
from infra.local import database
from services.kernel.jws import b64
from services.registry.genesis import sha256
from tests.caller import Caller, slug
from tests.instance import Instance

T = TypeVar("T")

TEXTS = {
    "name": "Augusta Ada Marchmont-Erasable",
    "contact_email": "ada.erasable@marchmont.example",
    "about": "Countess; keeps an Analytical Engine in the cellar of 12 St James Square",
}
STAYS = {"name": "Basil Remaining-Readable"}
PROFILES = "/v1/registry/profiles"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Instance, str]]:
    instance = Instance(tmp_path_factory.mktemp("erasure") / "home", extra={"COMMONS_LOG_LEVEL": "debug"})
    instance.home.mkdir(mode=0o700)
    instance.start("up", "--single")
    try:
        yield instance, sha256(instance.found())
    finally:
        if instance.process is not None:
            instance.stop()


def seals(caller: Caller, texts: dict[str, str], nonce: str = "profile-1") -> dict[str, str]:
    """Have a profile sealed, sign it, send it back; return the sealed texts."""
    answered = caller.command(f"{PROFILES}/seal", texts)
    assert answered.status_code == 200, answered.text
    sealed: dict[str, str] = answered.json()["sealed"]
    done = caller.authorized("SealProfile", PROFILES, {"sealed": sealed}, nonce)
    assert done.status_code == 200, done.text
    return sealed


def profile(caller: Caller, member: str, at_least: str = "") -> Any:
    answered = caller.view(f"/v1/views/profiles/{member}", at_least)
    assert answered.status_code == 200, answered.text
    return answered.json()


def on_database(instance: Instance, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
    async def main() -> T:
        async with database(instance.settings, lambda _line: None) as dsn:
            connection = await asyncpg.connect(dsn)
            try:
                return await work(connection)
            finally:
                await connection.close()

    return asyncio.run(main())


def wrapped(instance: Instance, member: str) -> bytes | None:
    async def work(connection: asyncpg.Connection) -> bytes | None:
        found: bytes | None = await connection.fetchval(
            "SELECT wrapped FROM keystore.subjects WHERE subject = $1", member
        )
        return found

    return on_database(instance, work)


def masters(home: Path) -> list[bytes]:
    return [bytes.fromhex(path.read_text()) for path in (home / "keys").glob("master.*.key")]


def unwrapped(instance: Instance, member: str, row: bytes) -> bytes:
    """What the database holds of a key, opened by the master key that lies in the home."""
    (master,) = masters(instance.home)
    return AESGCM(master).decrypt(row[:12], row[12:], b"commons.subject-key.v1\0" + member.encode())


def spellings(text: str | bytes) -> set[bytes]:
    """The bytes themselves, and as hex and base64 where that is how they could lie in a file."""
    raw = text.encode() if isinstance(text, str) else text
    escaped = {json.dumps(text)[1:-1].encode()} if isinstance(text, str) else set()
    return {raw, raw.hex().encode(), raw.hex().upper().encode(), b64(raw).encode(), *escaped}


def found_in(files: Iterable[Path], wanted: Iterable[bytes]) -> list[str]:
    """Name every file that holds any of these bytes: heap and index files, the database's log, our logs, all."""
    needles = list(wanted)
    hits = []
    for path in files:
        try:
            if not path.is_file() or path.stat().st_size == 0:
                continue
            with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                hits += [f"{path}: {needle[:24]!r}" for needle in needles if view.find(needle) >= 0]
        except FileNotFoundError:
            continue  # the database recycles its own files meanwhile
    return hits


def files_of(instance: Instance) -> list[Path]:
    """The whole home, and what the processes wrote to their terminal."""
    return [*instance.home.rglob("*"), instance.home.parent / f"{instance.home.name}.log"]


def wait_until_destroyed(instance: Instance, member: str) -> None:
    deadline = time.monotonic() + 20
    while wrapped(instance, member) is not None:
        assert time.monotonic() < deadline, instance.log()
        time.sleep(0.1)


def test_the_fact_of_one_member_opens_with_no_other_members_key(running: tuple[Instance, str]) -> None:
    instance, genesis = running
    one, two = (Caller(instance.url, instance.key(handle), genesis) for handle in ("maple", "nettle"))
    sealed = seals(one, {"name": "Maple"})
    seals(two, {"name": "Nettle"})
    assert slug(two.authorized("SealProfile", PROFILES, {"sealed": sealed})) == "invalid-field"
    row = wrapped(instance, two.key.member)
    assert row is not None
    key = unwrapped(instance, two.key.member, row)
    with pytest.raises(SealRefused):
        open_text(key, Place("registry.profile-sealed.v1", "name", one.key.member), sealed["name"])
    for caller in (one, two):
        caller.close()


@pytest.mark.soak
def test_after_an_erasure_nothing_opens_what_was_sealed(running: tuple[Instance, str], tmp_path: Path) -> None:
    instance, genesis = running
    ada, ben, steward = (
        Caller(instance.url, instance.key(handle), genesis) for handle in ("aurora", "basalt", "steward")
    )
    member, other = ada.key.member, ben.key.member
    sealed = seals(ada, TEXTS)
    seals(ben, STAYS)
    _those_who_may_read_do(ada, ben, steward)
    instance.stop()  # the states are kept as snapshots
    instance.start("up", "--single")
    backup = tmp_path / "facts.tar"
    assert instance.commons("backup", str(backup)).returncode == 0

    row, old_masters = wrapped(instance, member), masters(instance.home)
    assert row is not None
    key = unwrapped(instance, member, row)
    assert open_text(key, Place("registry.profile-sealed.v1", "name", member), sealed["name"]) == TEXTS["name"]

    stranger = ben.authorized("EraseSubject", f"{PROFILES}/erase", {"member": member})
    assert slug(stranger) == "not-the-subject"
    done = ada.authorized("EraseSubject", f"{PROFILES}/erase", {"member": member}, "erase-me")
    assert done.status_code == 200, done.text
    at = f"registry={done.json()['position']}"
    assert profile(ada, member)["fields"] is None, "it opens no more from the very answer on"
    again = ada.authorized("EraseSubject", f"{PROFILES}/erase", {"member": member}, "erase-me")
    assert again.headers["Idempotency-Hit"] == "true"
    wait_until_destroyed(instance, member)

    for reader in (ada, steward):
        shown = profile(reader, member, at)
        assert (shown["status"], shown["fields"]) == ("erased", None)
    assert profile(ben, other)["fields"] == STAYS
    assert slug(ada.command(f"{PROFILES}/seal", TEXTS)) == "subject-erased"
    repeated = ada.authorized("SealProfile", PROFILES, {"sealed": sealed}, "profile-1")
    assert slug(repeated) == "subject-erased", "not even the outcome of the same command is compared any more"

    _what_is_left_is_sound(instance)
    _no_file_gives_it_away(instance, member, key, row, old_masters)
    _the_backup_holds_no_key(backup)
    for caller in (ada, ben, steward):
        caller.close()
    instance.stop()
    _no_file_gives_it_away(instance, member, key, row, old_masters)


def _those_who_may_read_do(ada: Caller, ben: Caller, steward: Caller) -> None:
    path = f"/v1/views/profiles/{ada.key.member}"
    for reader in (ada, steward):
        deadline = time.monotonic() + 10
        while (answered := reader.view(path)).status_code == 404 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert answered.json()["status"] == "open", answered.text
        assert answered.json()["fields"] == TEXTS
    assert slug(ben.view(path)) == "permission-denied", "a member without the role reads nobody else's profile"
    assert slug(ben.view("/v1/views/profiles/member/" + "0" * 32)) == "permission-denied"
    assert slug(ada.bare("GET", path)) == "authentication-failed"
    audit = steward.view("/v1/views/audit-trail?limit=1000")
    assert not any(text in audit.text for text in TEXTS.values())


def _what_is_left_is_sound(instance: Instance) -> None:
    doctor = instance.commons("doctor", "--json")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert all(view["equal"] for view in instance.json("rebuild", "profiles")["views"])


def _no_file_gives_it_away(instance: Instance, member: str, key: bytes, row: bytes, old: list[bytes]) -> None:
    """Look at the raw files, after what is in memory has gone to the disk."""
    if instance.process is not None:
        on_database(instance, lambda connection: connection.execute("CHECKPOINT"))
    files = files_of(instance)
    operator = KeyDirectory(instance.home).secret("operator")
    assert found_in(files, spellings(operator)), "the search finds what is there"
    secrets: list[str | bytes] = [*TEXTS.values(), key, *old]
    needles = [spelling for secret in secrets for spelling in spellings(secret)]
    assert found_in(files, needles) == []
    # The wrapped key may still lie in the database's log or a dead row; no key of this home opens it.
    aad = b"commons.subject-key.v1\0" + member.encode()
    for path in (instance.home / "keys").glob("*.key"):
        with pytest.raises(InvalidTag):
            AESGCM(bytes.fromhex(path.read_text())).decrypt(row[:12], row[12:], aad)
    assert len(masters(instance.home)) == 1


def _the_backup_holds_no_key(backup: Path) -> None:
    with tarfile.open(backup) as tar:
        names = tar.getnames()
        raw = tar.extractfile("manifest.json")
        assert raw is not None
        schemas = json.loads(raw.read())["schemas"]
    assert "registry" in schemas
    assert "keystore" not in schemas
    assert "keys/operator.key" in names
    assert not any("master" in name for name in names)
    assert found_in([backup], [spelling for text in TEXTS.values() for spelling in spellings(text)]) == []
