"""A wallet that signs in and acts, for users' scripts and tests: EIP-4361 sessions, EIP-712 commands."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import coincurve
import httpx
import msgspec
import pydantic

from events.values import member_id
from infra.http.incoming import JSON
from infra.http.sessions import NONCES_PATH, SESSIONS_PATH
from services.kernel.ethereum import address_of, personal_digest, sign_digest
from services.kernel.siwe import SignIn
from services.kernel.typed_commands import digest, possession_statement, typed_command

STATEMENT: Final = "Sign in to the commons. This moves nothing."
RENEW_SECONDS: Final = 60
"""How long before its end a session is renewed."""


@dataclass(frozen=True, slots=True)
class Wallet:
    """A secp256k1 key in memory, as a browser's wallet holds it. Its representation never shows the key."""

    private: coincurve.PrivateKey

    def __repr__(self) -> str:
        """Show the address only."""
        return f"Wallet({self.address})"

    @property
    def address(self) -> str:
        """The EIP-55 address."""
        return address_of(self.private.public_key)

    @property
    def member(self) -> str:
        """The id of the member whose first key this is."""
        return member_id(bytes.fromhex(self.address[2:]))

    def sign_text(self, text: str) -> str:
        """Return the signature of a text (EIP-191)."""
        return sign_digest(self.private, personal_digest(text))

    def sign_typed(self, data: Mapping[str, Any]) -> str:
        """Return the signature of typed data (EIP-712)."""
        return sign_digest(self.private, digest(data))

    def possession(self, domain: Mapping[str, Any], subject: str, replaces: str = "") -> str:
        """Return the signature that shows that this wallet is held and shall sign for `subject`."""
        return self.sign_typed(possession_statement(domain, subject, self.address, replaces))

    def authorize(
        self,
        domain: Mapping[str, Any],
        name: str,
        model: type[pydantic.BaseModel],
        body: Mapping[str, Any],
        nonce: str | None = None,
    ) -> dict[str, Any]:
        """Return the request body of an `own_signature` route: the command as typed data, signed."""
        data = typed_command(domain, name, model, body, nonce or secrets.token_hex(16))
        return {"eip712": {**data, "signature": self.sign_typed(data)}}


class WalletSession:
    """One wallet at one server. Answers come back as they are; the session renews itself. The token is never shown."""

    def __init__(
        self,
        base_url: str,
        wallet: Wallet,
        domain: Mapping[str, Any],
        *,
        public_url: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Call `base_url`; `domain` is the community's EIP-712 domain (see `typed_commands.wallet_domain`)."""
        self.wallet = wallet
        self.domain = dict(domain)
        self._public_url = (public_url or base_url).rstrip("/")
        self._http = httpx.AsyncClient(base_url=base_url, transport=transport, timeout=60.0, trust_env=False)
        self._now = now
        self._token = ""
        self._ends = 0.0

    async def __aenter__(self) -> Self:
        """Enter; leaving closes the connections and forgets the token."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._token = ""
        await self._http.aclose()

    async def nonce(self) -> str:
        """Return a fresh nonce of the server's. Raises httpx.HTTPError."""
        response = await self._post(NONCES_PATH, {})
        return str(response.raise_for_status().json()["nonce"])

    async def message(self, **changes: Any) -> SignIn:
        """Return the message to sign, with a fresh nonce; tests change it."""
        fields: dict[str, Any] = {
            "domain": urlsplit(self._public_url).netloc,
            "address": self.wallet.address,
            "uri": self._public_url,
            "chain_id": self.domain["chainId"],
            "issued_at": datetime.fromtimestamp(self._now(), UTC).isoformat(timespec="milliseconds"),
            "statement": STATEMENT,
        }
        return SignIn(**{**fields, "nonce": changes.get("nonce") or await self.nonce(), **changes})

    async def sign_in(self, message: SignIn | None = None, signature: str | None = None) -> httpx.Response:
        """Sign in and keep the token; the answer says until when."""
        text = (message or await self.message()).text()
        body = {"message": text, "signature": signature or self.wallet.sign_text(text)}
        response = await self._post(SESSIONS_PATH, body)
        if response.status_code == httpx.codes.OK:
            answer = response.json()
            self._token = answer["token"]
            self._ends = datetime.fromisoformat(answer["expires_at"]).timestamp()
        return response

    async def command(
        self, path: str, body: Mapping[str, Any], *, idempotency_key: str | None = None
    ) -> httpx.Response:
        """POST a command under the session."""
        key = {"idempotency-key": idempotency_key} if idempotency_key else {}
        return await self._post(path, body, await self._bearer() | key)

    async def authorized(
        self, path: str, name: str, model: type[pydantic.BaseModel], body: Mapping[str, Any], nonce: str | None = None
    ) -> httpx.Response:
        """POST a command of an `own_signature` route, signed by the wallet. Raises InvalidField."""
        return await self.command(path, self.wallet.authorize(self.domain, name, model, body, nonce))

    async def query(self, path: str, params: Mapping[str, Any] | None = None) -> httpx.Response:
        """GET a view under the session."""
        return await self._http.get(path, params=params, headers=await self._bearer())

    async def _bearer(self) -> dict[str, str]:
        if self._ends - self._now() < RENEW_SECONDS:
            (await self.sign_in()).raise_for_status()
        return {"authorization": f"Bearer {self._token}"}

    async def _post(
        self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        raw = msgspec.json.encode(body)
        return await self._http.post(path, content=raw, headers={"content-type": JSON, **(headers or {})})


def new_wallet(secret: bytes | None = None) -> Wallet:
    """Return the wallet of 32 secret bytes, or one nobody has had before."""
    return Wallet(coincurve.PrivateKey(secret or secrets.token_bytes(32)))
