"""EIP-712 and Ethereum addresses against published examples; what does not fit its type is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from events.values import ValueRefused
from services.kernel.eip712 import domain_separator, domain_type, encode_type, struct_hash, typed_digest
from services.kernel.errors import AuthenticationFailed
from services.kernel.ethereum import checksum_address, is_address, keccak256, recover

VECTOR = json.loads((Path(__file__).parent.parent / "vectors" / "eip712_snapshot_message.json").read_text())

MAIL: dict[str, Any] = {
    "Person": [{"name": "name", "type": "string"}, {"name": "wallet", "type": "address"}],
    "Mail": [
        {"name": "from", "type": "Person"},
        {"name": "to", "type": "Person"},
        {"name": "contents", "type": "string"},
    ],
}
MESSAGE = {
    "from": {"name": "Cow", "wallet": "0xCD2a3d9F938E13CD947Ec05AbC7FE734Df8DD826"},
    "to": {"name": "Bob", "wallet": "0xbBbBBBBbbBBBbbbBbbBbbbbBBbBbbbbBbBbbBBbB"},
    "contents": "Hello, Bob!",
}
ETHER_MAIL = {
    "name": "Ether Mail",
    "version": "1",
    "chainId": 1,
    "verifyingContract": "0xCcCCccccCCCCcCCCCCCcCcCccCcCCCcCcccccccC",
}


def test_the_example_of_the_eip_gives_its_hashes() -> None:
    """EIP-712, "Test cases": Example.js."""
    assert encode_type(MAIL, "Mail") == "Mail(Person from,Person to,string contents)Person(string name,address wallet)"
    assert domain_separator(ETHER_MAIL).hex() == "f2cee375fa42b42143804025fc449deafd50cc031ca257e0b194a650a912090f"
    assert struct_hash(MAIL, "Mail", MESSAGE).hex() == (
        "c52c0ee5d84264471806290a3f2c4cecfc5490626bf912d01f240d7a274b371e"
    )
    digest = typed_digest(MAIL, "Mail", ETHER_MAIL, MESSAGE)
    assert digest.hex() == "be609aee343fb3c4b28e1df9e632fca64fcfaede20f02e86244efddf30957bd2"


def test_a_real_message_recovers_to_its_signer() -> None:
    digest = typed_digest(VECTOR["types"], VECTOR["primaryType"], VECTOR["domain"], VECTOR["message"])
    assert "0x" + digest.hex() == VECTOR["hash"]
    assert recover(digest, VECTOR["signature"]) == VECTOR["signer"] != VECTOR["wrong_signer_must_fail"]


def test_a_domain_says_only_what_it_has() -> None:
    assert domain_type({"salt": "0x", "name": "x"}) == [
        {"name": "name", "type": "string"},
        {"name": "salt", "type": "bytes32"},
    ]
    with pytest.raises(ValueRefused, match="colour"):
        domain_type({"name": "x", "colour": "red"})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", 1),
        ("string", None),
        ("bool", 1),
        ("bool", "true"),
        ("uint8", 256),
        ("uint8", -1),
        ("uint8", True),
        ("uint8", "1"),
        ("uint8", 1.0),
        ("int8", 128),
        ("int8", -129),
        ("uint7", 1),
        ("uint264", 1),
        ("uint0", 0),
        ("address", "0x" + "00" * 19),
        ("address", "00" * 20),
        ("address", "0x" + "zz" * 20),
        ("bytes", "0x0"),
        ("bytes4", "0x0000"),
        ("bytes33", "0x" + "00" * 33),
        ("bytes0", "0x"),
        ("uint8[2]", [1]),
        ("uint8[]", "12"),
        ("uint8[]", [256]),
        ("Nothing", {}),
        ("function", "x"),
    ],
)
def test_a_value_that_does_not_fit_its_type_is_refused(kind: str, value: Any) -> None:
    with pytest.raises(ValueRefused, match=r"One\.field"):
        struct_hash({"One": [{"name": "field", "type": kind}]}, "One", {"field": value})


@pytest.mark.parametrize("value", [{}, {"field": 1, "more": 2}, {"other": 1}, [], None])
def test_a_struct_has_exactly_the_members_of_its_type(value: Any) -> None:
    with pytest.raises(ValueRefused, match="exactly the members"):
        struct_hash({"One": [{"name": "field", "type": "uint8"}]}, "One", value)


def test_a_type_that_contains_itself_ends_in_a_refusal() -> None:
    types = {"One": [{"name": "one", "type": "One"}]}
    deep: Any = {}
    for _ in range(40):
        deep = {"one": deep}
    with pytest.raises(ValueRefused, match="levels"):
        struct_hash(types, "One", deep)
    with pytest.raises(ValueRefused, match="no struct"):
        struct_hash({}, "One", {})


@pytest.mark.parametrize(
    "address",
    [
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x27b1fdb04752bbc536007a920d24acb045561c26",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ],
)
def test_the_addresses_of_eip_55_keep_their_spelling(address: str) -> None:
    assert checksum_address(bytes.fromhex(address[2:])) == address
    assert is_address(address)
    swapped = address[:2] + address[2:].swapcase()
    assert not is_address(swapped)


@pytest.mark.parametrize(
    "text", ["", "0x", "0x52908400098527886E0F7030069857D2E4169EE", "52908400098527886E0F7030069857D2E4169EE7"]
)
def test_what_is_no_address_is_none(text: str) -> None:
    assert not is_address(text)


def test_keccak_is_not_sha3() -> None:
    assert keccak256(b"").hex() == "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"


def test_a_signature_of_no_point_is_refused() -> None:
    with pytest.raises(AuthenticationFailed, match="does not verify"):
        recover(b"\x01" * 32, "0x" + f"{5:064x}" + f"{1:064x}" + "1b")
