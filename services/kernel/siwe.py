"""The message of EIP-4361 (Sign-In with Ethereum): read strictly by its ABNF, written, and judged. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import urlsplit

from services.kernel.errors import AuthenticationFailed
from services.kernel.ethereum import is_address

NONCE_SECONDS: Final = 300
"""How long a nonce waits for its signature, and the oldest a message may be."""

SKEW_SECONDS: Final = 30
"""How far ahead of ours a caller's clock may be."""

MOST_CHARACTERS: Final = 4_096

_UNRESERVED: Final = r"A-Za-z0-9._~\-"
_SUB: Final = r"!$&'()*+,;="
_ESCAPED: Final = "%[0-9A-Fa-f]{2}"
_PCHAR: Final = rf"(?:[{_UNRESERVED}{_SUB}:@]|{_ESCAPED})"
_HOST: Final = rf"(?:\[[0-9A-Fa-f:.]+\]|(?:[{_UNRESERVED}{_SUB}]|{_ESCAPED})*)"
_AUTHORITY: Final = rf"(?:(?:[{_UNRESERVED}{_SUB}:]|{_ESCAPED})*@)?{_HOST}(?::[0-9]*)?"
_URI: Final = (
    r"[A-Za-z][A-Za-z0-9+.\-]*:"
    rf"(?://{_AUTHORITY}(?:/{_PCHAR}*)*|/(?:{_PCHAR}+(?:/{_PCHAR}*)*)?|{_PCHAR}+(?:/{_PCHAR}*)*|)"
    rf"(?:\?(?:{_PCHAR}|[/?])*)?(?:\#(?:{_PCHAR}|[/?])*)?"
)
_TIME: Final = r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:[Zz]|[+\-]\d\d:\d\d)"

_MESSAGE: Final = re.compile(
    rf"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.\-]*)://)?(?P<domain>(?! ){_AUTHORITY}) "
    r"wants you to sign in with your Ethereum account:\n"
    r"(?P<address>0x[0-9A-Fa-f]{40})\n"
    r"\n"
    rf"(?:(?P<statement>[{_UNRESERVED}{_SUB}:/?\#\[\]@ ]+)\n)?"
    r"\n"
    rf"URI: (?P<uri>{_URI})\n"
    r"Version: 1\n"
    r"Chain ID: (?P<chain_id>[0-9]{1,18})\n"
    r"Nonce: (?P<nonce>[A-Za-z0-9]{8,128})\n"
    rf"Issued At: (?P<issued_at>{_TIME})"
    rf"(?:\nExpiration Time: (?P<expiration_time>{_TIME}))?"
    rf"(?:\nNot Before: (?P<not_before>{_TIME}))?"
    rf"(?:\nRequest ID: (?P<request_id>{_PCHAR}*))?"
    rf"(?P<resources>\nResources:(?:\n- {_URI})*)?\Z",
    re.ASCII,
)
"""EIP-4361's ABNF with RFC 3986's and RFC 3339's rules in it; lengths bounded where the ABNF leaves them open."""


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in message. Times keep the text that was signed; `request_id` None and "" differ, as in the ABNF."""

    domain: str
    address: str
    uri: str
    chain_id: int
    nonce: str
    issued_at: str
    scheme: str | None = None
    statement: str | None = None
    expiration_time: str | None = None
    not_before: str | None = None
    request_id: str | None = None
    resources: tuple[str, ...] | None = None

    def text(self) -> str:
        """Return the message as a wallet shows and signs it."""
        origin = f"{self.scheme}://{self.domain}" if self.scheme else self.domain
        lines = [
            f"{origin} wants you to sign in with your Ethereum account:",
            self.address,
            "",
            *([self.statement] if self.statement else []),
            "",
            f"URI: {self.uri}",
            "Version: 1",
            f"Chain ID: {self.chain_id}",
            f"Nonce: {self.nonce}",
            f"Issued At: {self.issued_at}",
        ]
        lines += [
            f"{name}: {value}"
            for name, value in (
                ("Expiration Time", self.expiration_time),
                ("Not Before", self.not_before),
                ("Request ID", self.request_id),
            )
            if value is not None
        ]
        lines += ["Resources:", *(f"- {uri}" for uri in self.resources)] if self.resources is not None else []
        return "\n".join(lines)


def parse_sign_in(text: str) -> SignIn:
    """Return the message; raises AuthenticationFailed unless it is EIP-4361's form with an EIP-55 address."""
    match = _MESSAGE.match(text) if len(text) <= MOST_CHARACTERS else None
    if match is None:
        raise AuthenticationFailed("the message does not have the form of EIP-4361 (Sign-In with Ethereum)")
    if not is_address(match["address"]):
        raise AuthenticationFailed("the address is not in its EIP-55 spelling")
    resources = match["resources"]
    message = SignIn(
        domain=match["domain"],
        address=match["address"],
        uri=match["uri"],
        chain_id=int(match["chain_id"]),
        nonce=match["nonce"],
        issued_at=match["issued_at"],
        scheme=match["scheme"],
        statement=match["statement"],
        expiration_time=match["expiration_time"],
        not_before=match["not_before"],
        request_id=match["request_id"],
        resources=None if resources is None else tuple(line[2:] for line in resources.split("\n")[2:]),
    )
    for stated in (message.issued_at, message.expiration_time, message.not_before):
        if stated is not None:
            instant_ms(stated)
    return message


def instant_ms(text: str) -> int:
    """Return an RFC 3339 time as milliseconds UTC; raises AuthenticationFailed for one that does not exist."""
    try:
        moment = datetime.fromisoformat(text.upper())
    except ValueError as error:
        raise AuthenticationFailed(f"{text[:40]!r} is no time") from error
    since = moment.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000 + since.microseconds // 1_000


def judge(message: SignIn, public_url: str, chain_id: int, now_ms: int) -> None:
    """Raise AuthenticationFailed unless the message is for this instance, this chain and this moment."""
    ours = urlsplit(public_url)
    if message.domain != ours.netloc or message.scheme not in {None, ours.scheme}:
        raise AuthenticationFailed(f"the message is for another domain than {ours.netloc}", domain=ours.netloc)
    if message.uri != public_url and not message.uri.startswith((f"{public_url}/", f"{public_url}?")):
        raise AuthenticationFailed(f"the message is for another URI than {public_url}", uri=public_url)
    if message.chain_id != chain_id:
        raise AuthenticationFailed(f"the message is for another chain than {chain_id}", chain_id=chain_id)
    issued_ms = instant_ms(message.issued_at)
    if issued_ms > now_ms + SKEW_SECONDS * 1_000:
        raise AuthenticationFailed("the message was issued in the future: your clock is off")
    if issued_ms < now_ms - (NONCE_SECONDS + SKEW_SECONDS) * 1_000:
        raise AuthenticationFailed("the message is too old: ask for a nonce and sign again")
    if message.expiration_time is not None and instant_ms(message.expiration_time) <= now_ms:
        raise AuthenticationFailed("the message has expired")
    if message.not_before is not None and instant_ms(message.not_before) > now_ms:
        raise AuthenticationFailed("the message is not valid yet")
