"""Commands a wallet signs (EIP-712), and wallets as keys: linked, replaced by the old one, unlinked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data

from events.registry import MemberRegistered, RoleGranted, WalletLinked, WalletRotated, WalletUnlinked
from events.registry_terms import Wallet as LinkedWallet
from infra.wallet import Wallet, WalletSession
from services.kernel.ethereum import ORDER
from services.kernel.typed_commands import signer_of
from tests.caller import slug
from tests.registry_world import member
from tests.toy_edge import CountBody
from tests.wallet_edge import ROUTES, WalletEdge, proof, wallet, wallet_edge

SIGNED = "/v1/toy/signed"
BODY = {"name": "signed", "by": 7}
STRANGER = "0x" + "11" * 32


@pytest.fixture
async def edge() -> AsyncIterator[WalletEdge]:
    async with wallet_edge() as made:
        assert (await made.link("steward", "steward")).status_code == 200
        yield made


def refused(response: httpx.Response, told: str, status: int = 401, name: str = "authentication-failed") -> None:
    assert (response.status_code, slug(response)) == (status, name), response.text
    assert told in response.json()["detail"], response.text


def seen_by_eth_account(text: str) -> str:
    """Who signed a fact's authorization, as an auditor finds out with another's library and nothing but the text."""
    data = msgspec.json.decode(text)
    signature = data.pop("signature")
    return str(Account.recover_message(encode_typed_data(full_message=data), signature=signature))


async def test_a_command_signed_by_a_wallet_is_recorded_with_a_signature_anyone_can_verify(edge: WalletEdge) -> None:
    session = edge.session("steward")
    grant = {"member": member("lab"), "role": "provider"}
    response = await edge.by_wallet(session, "GrantRole", grant)
    assert response.status_code == 200, response.text
    granted = (await edge.records())[-1]
    assert isinstance(granted.fact, RoleGranted)
    assert granted.actor == member("steward")
    text = granted.fact.authorization
    assert text is not None
    assert signer_of(text) == seen_by_eth_account(text) == wallet("steward").address
    shown = msgspec.json.decode(text)
    assert {name: shown["message"][name] for name in grant} == grant
    assert shown["domain"]["salt"] == f"0x{edge.directory.genesis_sha256}"
    assert shown["types"]["GrantRole"] == [{"name": name, "type": "string"} for name in ("nonce", "member", "role")]


async def test_one_typed_authorization_takes_effect_once(edge: WalletEdge) -> None:
    session = edge.session("steward")
    body = session.wallet.authorize(edge.domain, "CountSigned", CountBody, BODY, "n1")
    first = await session.command(SIGNED, body)
    again = await session.command(SIGNED, body)
    other = session.wallet.authorize(edge.domain, "CountSigned", CountBody, {"name": "signed", "by": 8}, "n1")
    assert first.status_code == 200, first.text
    assert again.headers["idempotency-hit"] == "true"
    refused(await session.command(SIGNED, other), "other inputs", 409, "other-inputs")
    refused(await session.command(SIGNED, body, idempotency_key="n2"), "must be the nonce", 422, "invalid-field")


async def test_a_member_may_sign_the_request_with_its_key_and_the_command_with_its_wallet(edge: WalletEdge) -> None:
    body = wallet("steward").authorize(edge.domain, "CountSigned", CountBody, BODY)
    async with edge.client("steward") as client:
        assert (await client.command(SIGNED, body)).status_code == 200
    async with edge.client("aurora") as client:
        refused(await client.command(SIGNED, body), "another one's wallet")


def resigned(signer: Wallet, body: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The same command with something else in its typed data, rightly signed."""
    data = {name: value for name, value in body["eip712"].items() if name != "signature"} | changes
    return {"eip712": {**data, "signature": signer.sign_typed(data)}}


@pytest.mark.parametrize(
    "part",
    [
        {"chainId": 1},
        {"verifyingContract": "0x8617E340B3D01FA5F11F306F4090FD50E238070D"},
        {"salt": "0x" + "cd" * 32},
        {"name": "Another commons"},
        {"version": "2"},
    ],
    ids=lambda part: next(iter(part)),
)
async def test_a_command_for_another_chain_contract_or_community_is_refused(
    edge: WalletEdge, part: dict[str, Any]
) -> None:
    session = edge.session("steward")
    body = session.wallet.authorize(edge.domain | part, "CountSigned", CountBody, BODY)
    refused(await session.command(SIGNED, body), "another community, chain or contract")
    right = session.wallet.authorize(edge.domain, "CountSigned", CountBody, BODY)["eip712"]
    passed_off = {"eip712": {**body["eip712"], "domain": right["domain"]}}
    refused(await session.command(SIGNED, passed_off), "")
    assert edge.toy.position == 0


async def test_a_command_that_is_not_the_signed_one_is_refused(edge: WalletEdge) -> None:
    session = edge.session("steward")
    body = session.wallet.authorize(edge.domain, "CountSigned", CountBody, BODY)
    typed = body["eip712"]
    more = {"eip712": {**typed, "message": {**typed["message"], "by": 8}}}
    refused(await session.command(SIGNED, more), "no member has this wallet")
    other = session.wallet.authorize(edge.domain, "GrantRole", CountBody, BODY)
    refused(await session.command(SIGNED, other), "another command")
    renamed = resigned(
        session.wallet,
        body,
        types={**typed["types"], "CountSigned": [{"name": "nonce", "type": "string"}]},
        message={"nonce": "n"},
    )
    refused(await session.command(SIGNED, renamed), "/name", 422, "invalid-field")
    retyped = [dict(each) for each in typed["types"]["CountSigned"]]
    retyped[-1]["type"] = "uint256"
    wider = resigned(session.wallet, body, types={**typed["types"], "CountSigned": retyped})
    refused(await session.command(SIGNED, wider), "not the types", 422, "invalid-field")
    assert edge.toy.position == 0


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ({"name": "signed"}, "nonce"),
        ({"name": "signed", "nonce": 5}, "nonce"),
        ({"name": "signed", "nonce": ""}, "command id"),
        ({"name": "signed", "nonce": "n", "more": "x"}, "/more"),
        ({"name": None, "nonce": "n"}, "null"),
        ({"name": 5, "nonce": "n"}, "text"),
        ({"name": "signed", "by": "7", "nonce": "n"}, "integer"),
        ({"name": "x" * 41, "nonce": "n"}, "/name"),
    ],
)
async def test_a_message_out_of_form_is_refused(edge: WalletEdge, message: dict[str, Any], told: str) -> None:
    session = edge.session("steward")
    types = [{"name": name, "type": "int64" if name == "by" else "string"} for name in ("nonce", "name", "by", "more")]
    body = session.wallet.authorize(edge.domain, "CountSigned", CountBody, BODY)
    chosen = [each for each in types if each["name"] in message]
    body["eip712"]["types"] = {"EIP712Domain": body["eip712"]["types"]["EIP712Domain"], "CountSigned": chosen}
    body["eip712"]["message"] = message
    if isinstance(message["name"], str) and isinstance(message.get("by", 1), int) and "more" not in message:
        nonce = message.get("nonce")
        if isinstance(nonce, str):
            body = resigned(session.wallet, body)
    refused(await session.command(SIGNED, body), told, 422, "invalid-field")


@pytest.mark.parametrize(
    "body", [{"eip712": {}}, {"eip712": []}, {"eip712": {"message": {}}}, {"eip712": {}, "jws": ""}]
)
async def test_typed_data_out_of_form_is_refused(edge: WalletEdge, body: Any) -> None:
    response = await edge.session("steward").command(SIGNED, body)
    assert (response.status_code, slug(response)) in {(422, "invalid-field"), (403, "permission-denied")}


async def test_no_second_signature_can_be_made_out_of_a_first_one(edge: WalletEdge) -> None:
    session = edge.session("steward")
    body = session.wallet.authorize(edge.domain, "CountSigned", CountBody, BODY)
    signature = body["eip712"]["signature"]
    r, s, v = signature[2:66], int(signature[66:130], 16), int(signature[130:], 16)
    high = f"0x{r}{ORDER - s:064x}{55 - v:02x}"
    for other, told in (
        (high, "lower half"),
        (signature.upper().replace("0X", "0x"), "lower-case"),
        (f"0x{r}{s:064x}{v - 27:02x}", "27 or 28"),
        (f"0x{r}{s:064x}{v + 8:02x}", "27 or 28"),
        (signature[:-2], "130"),
        (signature + "00", "130"),
        (f"0x{'00' * 32}{s:064x}{v:02x}", "lower half"),
    ):
        refused(await session.command(SIGNED, {"eip712": {**body["eip712"], "signature": other}}), told)
    assert edge.toy.position == 0
    assert (await session.command(SIGNED, body)).status_code == 200


async def test_a_wallet_is_linked_with_the_members_signature_and_its_own(edge: WalletEdge) -> None:
    assert (await edge.link("aurora", "aurora")).status_code == 200
    fact = (await edge.records())[-1].fact
    assert isinstance(fact, WalletLinked)
    assert (fact.member, fact.wallet.address) == (member("aurora"), wallet("aurora").address)
    assert fact.authorization.count(".") == 2
    assert signer_of(fact.wallet.possession) == seen_by_eth_account(fact.wallet.possession) == fact.wallet.address


@pytest.mark.parametrize(
    ("owner", "subject", "replaces", "told"),
    [
        ("basalt", member("aurora"), "", "possession"),
        ("aurora", member("basalt"), "", "possession"),
        ("aurora", member("aurora"), wallet("steward").address, "possession"),
    ],
)
async def test_a_wallet_nobody_shows_to_hold_is_not_linked(
    edge: WalletEdge, owner: str, subject: str, replaces: str, told: str
) -> None:
    signed = wallet(owner).possession(edge.domain, subject, replaces)
    body = {"wallet": {"address": wallet("aurora").address, "possession": signed}}
    refused(await edge.as_member("aurora", "LinkWallet", body), told)


async def test_a_possession_shown_to_another_community_links_nothing(edge: WalletEdge) -> None:
    body = {"wallet": proof(wallet("aurora"), edge.domain | {"salt": "0x" + "00" * 32}, member("aurora"))}
    refused(await edge.as_member("aurora", "LinkWallet", body), "possession")


async def test_a_members_wallet_is_replaced_by_its_own_signature(edge: WalletEdge) -> None:
    old, new = wallet("steward").address, wallet("steward-2").address
    body = {"wallet": proof(wallet("steward-2"), edge.domain, member("steward"), old)}
    response = await edge.by_wallet(edge.session("steward"), "RotateWallet", body)
    assert response.json()["address"] == new, response.text
    fact = (await edge.records())[-1].fact
    assert isinstance(fact, WalletRotated)
    assert (fact.old_address, fact.wallet.address) == (old, new)
    assert signer_of(fact.authorization) == old
    assert signer_of(fact.wallet.possession) == new
    await edge.feed.current()
    assert edge.directory.members[member("steward")].wallet == new
    assert (await edge.by_wallet(edge.session("steward-2"), "CountSigned", BODY)).status_code == 200


async def test_a_key_change_by_a_stranger_is_refused(edge: WalletEdge) -> None:
    await edge.link("aurora", "aurora")
    stranger, old = edge.session("aurora"), wallet("steward").address
    body = {"wallet": proof(wallet("thief"), edge.domain, member("steward"), old)}
    refused(await edge.by_wallet(stranger, "RotateWallet", body), "possession")
    signed = wallet("thief").authorize(edge.domain, "RotateWallet", ROUTES["RotateWallet"].body, body)
    refused(await edge.session("steward").command(ROUTES["RotateWallet"].path, signed), "no member has this wallet")
    signed = wallet("aurora").authorize(edge.domain, "RotateWallet", ROUTES["RotateWallet"].body, body)
    refused(await edge.session("steward").command(ROUTES["RotateWallet"].path, signed), "another one's wallet")
    async with edge.client("aurora") as client:
        signed = wallet("steward").authorize(edge.domain, "RotateWallet", ROUTES["RotateWallet"].body, body)
        refused(await client.command(ROUTES["RotateWallet"].path, signed), "another one's wallet")
    assert edge.directory.members[member("steward")].wallet == old


async def test_an_ed25519_key_replaces_no_wallet_and_a_wallet_no_ed25519_key(edge: WalletEdge) -> None:
    body = {"wallet": proof(wallet("other"), edge.domain, member("steward"), wallet("steward").address)}
    refused(await edge.as_member("steward", "RotateWallet", body), "its own signature")
    rotate = {"key": {"kid": "x", "x": "AAAA"}, "possession": "a.b.c"}
    response = await edge.by_wallet(edge.session("steward"), "RotateKey", rotate)
    assert (response.status_code, slug(response)) == (422, "invalid-field")
    refused(await edge.as_member("steward", "LinkKey", rotate), "your wallet's signature")


async def test_a_dead_wallet_signs_nothing_and_never_comes_back(edge: WalletEdge) -> None:
    session = edge.session("steward")
    await session.sign_in()
    body = {"address": wallet("steward").address}
    assert (await edge.as_member("steward", "UnlinkWallet", body)).status_code == 200
    assert isinstance((await edge.records())[-1].fact, WalletUnlinked)
    await edge.feed.current()
    signed = session.wallet.authorize(edge.domain, "CountSigned", CountBody, BODY)
    async with edge.client("steward") as client:
        refused(await client.command(SIGNED, signed), "wallet is dead")
    for handle in ("steward", "aurora"):
        again = {"wallet": proof(wallet("steward"), edge.domain, member(handle))}
        refused(await edge.as_member(handle, "LinkWallet", again), "somebody's", 409, "key-in-use")


async def test_a_wallet_only_member_keeps_its_last_key(edge: WalletEdge) -> None:
    response = await edge.join("willow")
    fact = (await edge.records())[-1].fact
    assert isinstance(fact, MemberRegistered)
    assert isinstance(fact.wallet, LinkedWallet)
    assert (fact.key, fact.member, fact.wallet.address) == (None, wallet("willow").member, wallet("willow").address)
    assert signer_of(fact.wallet.possession) == fact.wallet.address
    assert response.json()["member"] == fact.member
    session = edge.session("willow")
    body = {"address": wallet("willow").address}
    refused(await edge.by_wallet(session, "UnlinkWallet", body), "only key", 409, "last-key")
    assert (await edge.by_wallet(session, "CountSigned", BODY)).status_code == 200


async def test_a_wallet_key_must_be_the_new_members_own(edge: WalletEdge) -> None:
    mine = wallet("willow")
    foreign = {"address": mine.address, "possession": wallet("thief").possession(edge.domain, mine.member)}
    lower = {"address": mine.address.lower(), "possession": mine.possession(edge.domain, mine.member)}
    member_body: dict[str, Any] = {"handle": "willow", "kind": "human"}
    refused(await edge.as_member("steward", "RegisterMember", member_body | {"wallet": foreign}), "possession")
    response = await edge.as_member("steward", "RegisterMember", member_body | {"wallet": lower})
    refused(response, "EIP-55", 422, "invalid-field")
    refused(await edge.as_member("steward", "RegisterMember", member_body), "one key", 422, "invalid-field")


async def test_a_wallet_session_signs_in_by_itself_and_renews(edge: WalletEdge) -> None:
    session: WalletSession = edge.session("steward")
    assert (await session.command("/v1/toy/count", {"name": "a"})).status_code == 200
    edge.clock.now_ms += 880_000
    assert (await session.command("/v1/toy/count", {"name": "a"})).status_code == 200
    edge.clock.now_ms += 880_000
    assert (await session.command("/v1/toy/count", {"name": "a"})).status_code == 200
