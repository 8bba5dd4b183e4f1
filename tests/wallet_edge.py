"""The edge over a real registry and the toy, in memory: who signs in, links a wallet, and acts with it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI

from events import registry
from events.catalog import Catalog, Recorded
from events.genesis import Chain, Limits
from events.store import Store
from infra.http.client import RequestSigner, SignedClient
from infra.http.edge import build_app
from infra.http.nonces import MemoryNonces
from infra.http.parts import Settings, make_parts
from infra.memory import MemoryStore
from infra.wallet import Wallet, WalletSession, new_wallet
from services.kernel.acks import Acknowledger
from services.kernel.appender import Appender
from services.kernel.directory import Directory
from services.kernel.feed import DirectoryFeed
from services.kernel.group import Request
from services.kernel.routes import CommandRoute
from services.kernel.sessions import Sessions
from services.kernel.typed_commands import wallet_domain
from services.registry import api
from services.registry.commands import FoundCommunity
from services.registry.genesis import FOUNDER
from services.registry.service import service
from tests import toy
from tests.registry_world import community, private
from tests.toy_edge import PUBLIC_URL, Clock, command_routes

ROUTES = {route.name: route for route in (*api.routes(), *command_routes()) if isinstance(route, CommandRoute)}
CHAIN = Chain(chain_id=8_453, contract="0x52908400098527886E0F7030069857D2E4169EE7")


def wallet(name: str) -> Wallet:
    """The wallet of that name, the same in every run."""
    return new_wallet(hashlib.sha256(f"wallet of {name}".encode()).digest())


@dataclass
class WalletEdge:
    """A running edge of a founded community; members have the keys of `registry_world`."""

    app: FastAPI
    feed: DirectoryFeed
    store: Store
    acks: Acknowledger
    catalog: Catalog
    clock: Clock
    toy: Appender[toy.Counts]
    sessions: list[WalletSession] = field(default_factory=list)

    @property
    def directory(self) -> Directory:
        return self.feed.latest

    @property
    def domain(self) -> dict[str, Any]:
        return wallet_domain(self.directory)

    @property
    def tokens(self) -> Sessions:
        return Sessions(self.acks.private, self.acks.kid)

    def session(self, name: str, domain: Mapping[str, Any] | None = None) -> WalletSession:
        transport = httpx.ASGITransport(self.app)
        made = WalletSession(
            PUBLIC_URL,
            wallet(name),
            domain or self.domain,
            transport=transport,
            now=lambda: self.clock.now_ms / 1_000,
        )
        self.sessions.append(made)
        return made

    def client(self, handle: str) -> SignedClient:
        """A client that signs with a member's Ed25519 key (RFC 9421)."""
        signer = RequestSigner(private(handle), now=lambda: self.clock.now_ms / 1_000)
        transport = httpx.ASGITransport(self.app)
        return SignedClient(PUBLIC_URL, private(handle), patience_seconds=0, transport=transport, signer=signer)

    async def as_member(self, handle: str, name: str, body: Mapping[str, Any]) -> httpx.Response:
        """Send a command that a member signs with its Ed25519 key."""
        async with self.client(handle) as client:
            return await client.authorized(ROUTES[name].path, name, body, self.directory.genesis_sha256)

    async def by_wallet(self, session: WalletSession, name: str, body: Mapping[str, Any]) -> httpx.Response:
        """Send a command that a wallet signs (EIP-712), under its session."""
        return await session.authorized(ROUTES[name].path, name, ROUTES[name].body, body)

    async def link(self, handle: str, name: str) -> httpx.Response:
        """Let a member's wallet sign for it."""
        member = self.directory.keys[RequestSigner(private(handle)).kid].subject
        body = {"wallet": proof(wallet(name), self.domain, member)}
        response = await self.as_member(handle, "LinkWallet", body)
        await self.feed.current()
        return response

    async def join(self, name: str) -> httpx.Response:
        """Let the steward register a member who only has a wallet."""
        mine = wallet(name)
        body = {"handle": name, "kind": "human", "wallet": proof(mine, self.domain, mine.member)}
        response = await self.as_member("steward", "RegisterMember", body)
        await self.feed.current()
        return response

    async def records(self) -> Sequence[Recorded]:
        return [self.catalog.decode(record.state) for record in await self.store.read(0)]


def proof(mine: Wallet, domain: Mapping[str, Any], subject: str, replaces: str = "") -> dict[str, str]:
    """A wallet as bodies name it."""
    return {"address": mine.address, "possession": mine.possession(domain, subject, replaces)}


@asynccontextmanager
async def wallet_edge(
    clock: Clock | None = None, *, found: bool = True, limits: Limits | None = None
) -> AsyncIterator[WalletEdge]:
    """Serve registry and toy behind the edge; the community is founded unless told otherwise."""
    clock = clock or Clock()
    catalog = Catalog([toy.Counted, *registry.FACTS])
    store = MemoryStore("registry", lambda: clock.now_ms * 1_000)
    feed = DirectoryFeed(store, catalog)
    acks = Acknowledger.of(Ed25519PrivateKey.generate())

    async def ready() -> Sequence[str]:
        return []

    async with AsyncExitStack() as stack:
        appenders: Mapping[str, Appender[Any]] = {
            "registry": Appender(service(), store, catalog, feed.current, b"key"),
            "toy": Appender(toy.service(), MemoryStore("toy"), catalog, feed.current, b"key"),
        }
        for appender in appenders.values():
            await appender.load()
            stack.callback(asyncio.create_task(appender.run()).cancel)
        parts = make_parts(
            Settings(PUBLIC_URL),
            appenders=appenders,
            feed=feed,
            acknowledger=acks,
            nonces=MemoryNonces(clock),
            now_ms=clock,
            ready=ready,
        )
        app = build_app(parts, {"registry": api.routes(), "toy": command_routes()})
        if found:
            founding = FoundCommunity(community(chain=CHAIN, limits=limits or Limits()))
            await appenders["registry"].submit(Request(founding, FOUNDER, "found", b"found"))
        await feed.current()
        edge = WalletEdge(app, feed, store, acks, catalog, clock, appenders["toy"])
        yield edge
        for session in edge.sessions:
            await session.__aexit__(None, None, None)
