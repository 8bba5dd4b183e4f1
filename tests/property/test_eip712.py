"""EIP-712 as we hash it against eth-account, on random typed data; and signatures of one spelling only."""

from __future__ import annotations

from typing import Any, cast

from eth_account import Account
from eth_account.messages import encode_defunct, encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from infra.wallet import new_wallet
from services.kernel.eip712 import DOMAIN, domain_type, typed_digest
from services.kernel.errors import AuthenticationFailed
from services.kernel.ethereum import NO_ADDRESS, ORDER, keccak256, personal_digest, recover, signature_bytes
from services.kernel.siwe import SignIn, parse_sign_in
from services.kernel.typed_commands import digest, possession_statement

EXAMPLES = 60

NAMES = st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon", "zeta"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
HEX = st.binary(max_size=70).map(lambda raw: "0x" + raw.hex())
BITS = st.integers(1, 32).map(lambda count: 8 * count)


def fixed_bytes(length: int) -> st.SearchStrategy[str]:
    return st.binary(min_size=length, max_size=length).map(lambda raw: "0x" + raw.hex())


@st.composite
def atoms(draw: st.DrawFn) -> tuple[str, st.SearchStrategy[Any]]:
    kind = draw(st.sampled_from(["string", "bytes", "bool", "address", "uint", "int", "fixed"]))
    bits = draw(BITS)
    return {
        "string": ("string", TEXTS),
        "bytes": ("bytes", HEX),
        "bool": ("bool", st.booleans()),
        "address": ("address", fixed_bytes(20)),
        "uint": (f"uint{bits}", st.integers(0, 2**bits - 1)),
        "int": (f"int{bits}", st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)),
        "fixed": (f"bytes{bits // 8}", fixed_bytes(bits // 8)),
    }[kind]


@st.composite
def arrays(draw: st.DrawFn, kind: str, values: st.SearchStrategy[Any]) -> tuple[str, st.SearchStrategy[Any]]:
    """The type itself, an array of it, or an array of a fixed length; eth-account wants none of these empty."""
    shape = draw(st.sampled_from(["one", "many", "three"]))
    if shape == "one":
        return kind, values
    if shape == "three":
        return f"{kind}[3]", st.lists(values, min_size=3, max_size=3)
    return f"{kind}[]", st.lists(values, min_size=1, max_size=4)


@st.composite
def structs(draw: st.DrawFn, types: dict[str, Any], depth: int = 2) -> tuple[str, st.SearchStrategy[Any]]:
    """A struct of random members; deeper ones are members of it, or arrays of them."""
    name = f"Struct{len(types)}"
    types[name] = []
    fields = {}
    for member in draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)):
        nested = depth > 0 and draw(st.booleans())
        kind, values = draw(structs(types, depth - 1)) if nested else draw(atoms())
        kind, values = draw(arrays(kind, values))
        types[name].append({"name": member, "type": kind})
        fields[member] = values
    return name, st.fixed_dictionaries(fields)


DOMAINS = st.fixed_dictionaries(
    {"name": TEXTS},
    optional={
        "version": TEXTS,
        "chainId": st.integers(0, 2**63),
        "verifyingContract": fixed_bytes(20),
        "salt": fixed_bytes(32),
    },
)


@st.composite
def typed_data(draw: st.DrawFn) -> dict[str, Any]:
    types: dict[str, Any] = {}
    primary, values = draw(structs(types))
    domain = draw(DOMAINS)
    return {
        "types": {DOMAIN: domain_type(domain), **types},
        "primaryType": primary,
        "domain": domain,
        "message": draw(values),
    }


def by_eth_account(data: dict[str, Any]) -> bytes:
    signable = encode_typed_data(full_message=data)
    return keccak256(b"\x19" + signable.version + signable.header + signable.body)


@settings(max_examples=EXAMPLES, deadline=None)
@given(typed_data())
def test_random_typed_data_hashes_as_eth_account_hashes_it(data: dict[str, Any]) -> None:
    assert typed_digest(data["types"], data["primaryType"], data["domain"], data["message"]) == by_eth_account(data)


@settings(max_examples=EXAMPLES, deadline=None)
@given(typed_data(), st.binary(min_size=32, max_size=32).filter(lambda raw: 0 < int.from_bytes(raw, "big") < ORDER))
def test_what_one_library_signs_the_other_recovers(data: dict[str, Any], secret: bytes) -> None:
    account, mine = Account.from_key(secret), new_wallet(secret)
    assert mine.address == account.address
    theirs = "0x" + bytes(Account.sign_typed_data(secret, full_message=data).signature).hex()
    assert recover(digest(data), theirs) == account.address
    ours = mine.sign_typed(data)
    assert ours == theirs
    assert Account.recover_message(encode_typed_data(full_message=data), signature=cast("Any", ours)) == mine.address


@settings(max_examples=EXAMPLES, deadline=None)
@given(TEXTS, st.binary(min_size=32, max_size=32).filter(lambda raw: 0 < int.from_bytes(raw, "big") < ORDER))
def test_a_text_is_signed_as_eth_account_signs_it(text: str, secret: bytes) -> None:
    theirs = "0x" + bytes(Account.sign_message(encode_defunct(text=text), secret).signature).hex()
    assert new_wallet(secret).sign_text(text) == theirs
    assert recover(personal_digest(text), theirs) == new_wallet(secret).address


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(min_size=65, max_size=65))
def test_any_65_bytes_recover_to_someone_or_are_refused_in_our_words(raw: bytes) -> None:
    text = "0x" + raw[:64].hex() + ("1b" if raw[64] & 1 else "1c")
    data = possession_statement({"name": "x"}, "member/1", NO_ADDRESS)
    try:
        found = recover(digest(data), text)
    except AuthenticationFailed:
        return
    assert signature_bytes(text)[:64] == raw[:64]
    assert found != NO_ADDRESS


ALNUM = st.text(st.sampled_from("abcXYZ0189"), min_size=8, max_size=20)
URIS = st.sampled_from(["https://a.example/x?y=1#z", "ipfs://Qme7", "urn:uuid:1", "http://[::1]:8/", "mailto:a@b"])
TIMES = st.sampled_from(["2026-09-21T14:13:20Z", "2026-09-21T14:13:20.123456789+02:00", "2024-02-29T23:59:59-11:30"])
STATEMENTS = st.text(st.sampled_from("abc XYZ 019 -._~:/?#[]@!$&'()*+,;="), min_size=1, max_size=60)


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.builds(
        SignIn,
        domain=st.sampled_from(["a.example", "127.0.0.1:8700", "[::1]:80", "me@a.example", "a%20b"]),
        address=st.integers(1, 50).map(lambda number: new_wallet(number.to_bytes(32, "big")).address),
        uri=URIS,
        chain_id=st.integers(0, 10**17),
        nonce=ALNUM,
        issued_at=TIMES,
        scheme=st.none() | st.sampled_from(["https", "http", "x+y"]),
        statement=st.none() | STATEMENTS,
        expiration_time=st.none() | TIMES,
        not_before=st.none() | TIMES,
        request_id=st.none() | st.sampled_from(["", "a-1", "a%20b:@"]),
        resources=st.none() | st.lists(URIS, max_size=3).map(tuple),
    )
)
def test_a_sign_in_message_reads_as_it_was_written(message: SignIn) -> None:
    assert parse_sign_in(message.text()) == message
