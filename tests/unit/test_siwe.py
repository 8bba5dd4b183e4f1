"""EIP-4361's form against cases of the reference implementation (spruceid/siwe, MIT or Apache-2.0, test/parsing_*)."""

from __future__ import annotations

import re

import pytest

from services.kernel.errors import AuthenticationFailed
from services.kernel.ethereum import personal_digest, recover
from services.kernel.siwe import SignIn, instant_ms, parse_sign_in

WHOLE = """service.org wants you to sign in with your Ethereum account:
0xe5A12547fe4E872D192E3eCecb76F2Ce1aeA4946

I accept the ServiceOrg Terms of Service: https://service.org/tos

URI: https://service.org/login
Version: 1
Chain ID: 1
Nonce: 12341234
Issued At: 2022-03-17T12:45:13.610Z
Expiration Time: 2023-03-17T12:45:13.610Z
Not Before: 2022-03-17T12:45:13.610Z
Request ID: some_id
Resources:
- https://service.org/login"""

LINES = WHOLE.split("\n")


def test_a_message_with_everything_in_it_is_read() -> None:
    message = parse_sign_in(WHOLE)
    assert message.text() == WHOLE
    assert (message.domain, message.chain_id, message.nonce) == ("service.org", 1, "12341234")
    assert message.request_id == "some_id"
    assert message.resources == ("https://service.org/login",)


@pytest.mark.parametrize(
    "domain",
    ["127.0.0.1", "test@127.0.0.1", "127.0.0.1:8080", "test@127.0.0.1:8080", "[2001:db8::1]", "https://service.org"],
)
def test_a_domain_is_an_authority_with_or_without_a_scheme(domain: str) -> None:
    assert parse_sign_in(WHOLE.replace("service.org", domain, 1)).domain == domain.rpartition("://")[2]


def test_the_statement_may_be_missing_but_not_its_empty_line() -> None:
    bare = WHOLE.replace(f"{LINES[3]}\n", "")
    assert parse_sign_in(bare).statement is None
    with pytest.raises(AuthenticationFailed):
        parse_sign_in(bare.replace("\n\n\n", "\n\n"))


@pytest.mark.parametrize("missing", [0, 1, 5, 6, 7, 8, 9, 13])
def test_a_mandatory_line_may_not_be_missing(missing: int) -> None:
    with pytest.raises(AuthenticationFailed, match="EIP-4361"):
        parse_sign_in("\n".join(line for index, line in enumerate(LINES) if index != missing))


@pytest.mark.parametrize("first", range(5, 13))
def test_lines_out_of_order_are_refused(first: int) -> None:
    lines = [*LINES[:first], LINES[first + 1], LINES[first], *LINES[first + 2 :]]
    with pytest.raises(AuthenticationFailed, match="EIP-4361"):
        parse_sign_in("\n".join(lines))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("service.org wants", " wants"),
        ("service.org wants", "serv ice.org wants"),
        ("0xe5A1", "0xe5a1"),
        ("0xe5A1", "0Xe5A1"),
        ("946\n", "94\n"),
        ("Service: https", "Service: \nhttps"),
        ("Service: https", "Service: \\https"),
        ("\n\nI accept", "\n\n\nI accept"),
        ("URI: https://service.org/login", "URI: _not_a_rfc3986_valid_uri_"),
        ("URI: https://service.org/login", "URI: https://service.org/a b"),
        ("URI: https://service.org/login", "URI: https://service.org/%zz"),
        ("Version: 1", "Version: 2"),
        ("Version: 1", "version: 1"),
        ("Chain ID: 1", "Chain ID: ?"),
        ("Chain ID: 1", "Chain ID: -1"),
        ("Chain ID: 1", "Chain ID: "),
        ("Nonce: 12341234", "Nonce: 1234567"),
        ("Nonce: 12341234", "Nonce: 1234-1234"),
        ("Issued At: 2022-03-17T12:45:13.610Z", "Issued At: Wed Oct 05 2011 16:48:00 GMT+0200 (CEST)"),
        ("Issued At: 2022-03-17T12:45:13.610Z", "Issued At: 2022-03-17T12:45:13.610"),
        ("Issued At: 2022-03-17T12:45:13.610Z", "Issued At: 2022-02-30T12:45:13Z"),
        ("Issued At: 2022-03-17T12:45:13.610Z", "Issued At: 2022-03-17T12:45:60Z"),
        ("Expiration Time: 2023-03-17T12:45:13.610Z", "Expiration Time: soon"),
        ("Not Before: 2022-03-17T12:45:13.610Z", "Not Before: later"),
        ("Request ID: some_id", "Request ID: some id"),
        ("- https://service.org/login", "- https://service.org/login - https://service.org/login/2"),
        ("- https://service.org/login", "- _not_a_rfc3986_valid_uri_"),
        ("\n- https://service.org/login", "\n- https://service.org/login\n"),
        ("\n", "\r\n"),
        ("12341234", "1234\u0661234"),
    ],
)
def test_a_message_of_another_form_is_refused(old: str, new: str) -> None:
    assert old in WHOLE
    with pytest.raises(AuthenticationFailed):
        parse_sign_in(WHOLE.replace(old, new))


@pytest.mark.parametrize("text", ["", "\n", WHOLE + "\n", " " + WHOLE, WHOLE + "\0", WHOLE * 10, "x" * 10_000])
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(AuthenticationFailed, match="EIP-4361"):
        parse_sign_in(text)


def test_a_long_hostile_text_is_refused_at_once() -> None:
    hostile = "a" * 4_000 + "%"
    with pytest.raises(AuthenticationFailed):
        parse_sign_in(hostile)
    with pytest.raises(AuthenticationFailed):
        parse_sign_in(re.sub("login\nVersion", "a/" * 1_500 + "%\nVersion", WHOLE))


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00.5+01:00", 500),
        ("1970-01-01t00:00:00.123456789z", 123),
        ("1969-12-31T23:59:59Z", -1_000),
    ],
)
def test_a_time_is_milliseconds_in_utc(text: str, milliseconds: int) -> None:
    assert instant_ms(text) == milliseconds


def test_a_signature_of_the_reference_implementation_verifies() -> None:
    """The "example message" of its test/verification_positive.json."""
    text = SignIn(
        domain="login.xyz",
        address="0x9D85ca56217D2bb651b00f15e694EB7E713637D4",
        statement="Sign-In With Ethereum Example Statement",
        uri="https://login.xyz",
        chain_id=1,
        nonce="bTyXgcQxn2htgkjJn",
        issued_at="2022-01-27T17:09:38.578Z",
        expiration_time="2100-01-07T14:31:43.952Z",
    ).text()
    signature = (
        "0xdc35c7f8ba2720df052e0092556456127f00f7707eaa8e3bbff7e56774e7f2e0"
        "5a093cfc9e02964c33d86e8e066e221b7d153d27e5a2e97ccd5ca7d3f2ce06cb1b"
    )
    assert recover(personal_digest(text), signature) == "0x9D85ca56217D2bb651b00f15e694EB7E713637D4"
    with pytest.raises(AuthenticationFailed):
        recover(personal_digest(text), "0x" + "00" * 64 + "1b")
