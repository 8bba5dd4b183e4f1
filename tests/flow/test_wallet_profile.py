"""A member who has nothing but a wallet: seals a profile, reads it, adds a key, erases, all by the wallet's hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pydantic
import pytest

from events.registry import KeyLinked
from infra.keys import derive_key
from infra.wallet import Wallet, WalletSession, new_wallet
from services.kernel.directory import Directory
from services.kernel.typed_commands import wallet_domain
from services.registry import bodies
from services.registry.genesis import sha256
from services.registry.keys import possession_payload
from tests.caller import Caller, slug
from tests.instance import Instance
from tests.wallet_edge import proof

PROFILES = "/v1/registry/profiles"
LINK = "/v1/registry/keys/link"
TEXTS = {"name": "Willow Wallet-Only", "about": "has no other key"}


class Story:
    """One wallet at one server."""

    def __init__(self, serving: Instance, session: WalletSession, genesis: str) -> None:
        self.serving = serving
        self.session = session
        self.genesis = genesis
        self.member = session.wallet.member

    async def signs(self, path: str, name: str, model: type[pydantic.BaseModel], body: Any) -> httpx.Response:
        return await self.session.authorized(path, name, model, body)

    async def profile(self, position: str) -> Any:
        path = f"/v1/views/profiles/{self.member}"
        headers = {"commons-at-least": f"registry={position}"} | await self.session._bearer()
        answered = await self.session._http.get(path, headers=headers)
        assert answered.status_code == 200, answered.text
        return answered.json()

    async def seals(self) -> None:
        answered = await self.session.command(f"{PROFILES}/seal", TEXTS)
        assert answered.status_code == 200, answered.text
        body = {"sealed": answered.json()["sealed"]}
        done = await self.signs(PROFILES, "SealProfile", bodies.SealProfileBody, body)
        assert done.status_code == 200, done.text
        shown = await self.profile(done.json()["position"])
        assert (shown["status"], shown["fields"]) == ("open", TEXTS)

    async def links_a_key(self) -> Caller:
        key = derive_key(b"w" * 32, "member", "willow")
        rotation = possession_payload(self.genesis, self.member, self.session.wallet.address, key.kid)
        body = {"key": msgspec.to_builtins(key.public), "possession": key.jws(rotation)}
        for name, path in (("LinkKey", LINK), ("RotateKey", "/v1/registry/keys/rotate")):
            model = bodies.LinkKeyBody if name == "LinkKey" else bodies.RotateKeyBody
            assert (await self.signs(path, name, model, body)).status_code in {401, 409}
        body["possession"] = key.jws(possession_payload(self.genesis, self.member, "", key.kid))
        done = await self.signs(LINK, "LinkKey", bodies.LinkKeyBody, body)
        assert done.json()["kid"] == key.kid, done.text
        again = await self.signs(LINK, "LinkKey", bodies.LinkKeyBody, body)
        assert slug(again) == "key-linked-already"
        return Caller(self.serving.url, key, self.genesis)

    async def erases(self) -> None:
        body = {"member": self.member}
        done = await self.signs(f"{PROFILES}/erase", "EraseSubject", bodies.EraseSubjectBody, body)
        assert done.status_code == 200, done.text
        shown = await self.profile(done.json()["position"])
        assert (shown["status"], shown["fields"]) == ("erased", None)
        refused = await self.session.command(f"{PROFILES}/seal", TEXTS)
        assert slug(refused) == "subject-erased"


async def lived(serving: Instance, mine: Wallet, domain: dict[str, Any], genesis: str) -> Caller:
    async with WalletSession(serving.url, mine, domain) as session:
        story = Story(serving, session, genesis)
        await story.seals()
        with_key = await story.links_a_key()
        await story.erases()
    return with_key


@pytest.fixture
def serving(tmp_path: Path, database: str) -> Iterator[Instance]:
    made = Instance(tmp_path / "home", extra={"COMMONS_DATABASE": database})
    made.start("up", "--single")
    yield made
    made.stop()


def test_a_member_with_nothing_but_a_wallet_keeps_personal_data_and_gets_a_key(serving: Instance) -> None:
    mine, document = new_wallet(), serving.found()
    genesis = sha256(document)
    domain = wallet_domain(Directory(community=document, genesis_sha256=genesis))
    steward = Caller(serving.url, serving.key("steward"), genesis)
    body = {"handle": "willow", "kind": "human", "wallet": proof(mine, domain, mine.member)}
    assert steward.authorized("RegisterMember", "/v1/registry/members/register", body).status_code == 200
    caller = asyncio.run(lived(serving, mine, domain, genesis))
    unlinked = caller.authorized("UnlinkWallet", "/v1/registry/wallets/unlink", {"address": mine.address})
    assert unlinked.status_code == 200, "the key alone is enough from now on"
    records = steward.view("/v1/views/audit_trail?limit=1000").text
    assert KeyLinked.TYPE in records
    assert not any(text in records for text in TEXTS.values())
    for each in (steward, caller):
        each.close()
