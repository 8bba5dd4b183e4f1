"""The toy service behind the real edge: a community of three keys, memory stores, a clock that tests move."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import httpx
import pydantic
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import FastAPI

from events import registry
from events.catalog import Catalog
from events.genesis import Community, Currency, Epochs, Founder, Limits, Pool
from events.store import Store, StoreUnavailable
from events.values import member_id, node_id
from infra.http.client import RequestSigner, SignedClient
from infra.http.edge import build_app
from infra.http.nonces import MemoryNonces
from infra.http.parts import Settings, make_parts
from infra.memory import MemoryStore
from projections.routes import Answer, NotCaughtUp, NothingThere, Params, QueryContext, QueryRoute
from services.kernel.acks import Acknowledger
from services.kernel.appender import Appender
from services.kernel.decider import Command, Decision, Emit, Service
from services.kernel.errors import InvalidField
from services.kernel.feed import DirectoryFeed
from services.kernel.group import Request
from services.kernel.jws import public_key, raw_public
from services.kernel.nonces import Nonces
from services.kernel.routes import Body, BulkRoute, Caller, CommandRoute, Item, Route
from tests import toy

PUBLIC_URL = "https://commons.example"
NOW_MS = 1_790_000_000_000
GENESIS = "ab" * 32
SECRET = "s3cret_with-dashes"
KEY_ID = "0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Record(Command):
    """Record facts of the registry as they stand; the test's stand-in for its rules."""

    emits: tuple[Emit, ...]


def scripted_registry() -> Service[int]:
    return Service(
        "registry",
        lambda: 0,
        lambda state, _recorded: state + 1,
        {Record: lambda command, _state, _context: Decision(command.emits)},
    )


class CountBody(Body):
    """Count a name up."""

    name: Annotated[str, pydantic.Field(min_length=1, max_length=40)]
    by: Annotated[int, pydantic.Field(ge=0, le=2_000_000)] = 1
    padding: str = ""


def count(body: CountBody, caller: Caller) -> toy.Count:
    if body.name == "stumble":
        return toy.Stumble()  # type: ignore[return-value]
    if body.name == "signed" and caller.authorization is None:
        raise InvalidField("name: this one must be signed")
    return toy.Count(body.name, body.by, body.padding)


def read_item(text: str, _caller: Caller) -> Item:
    if not text.isalnum():
        raise InvalidField(f"{text[:20]!r} is no name")
    return Item(toy.Count(text), f"item/{text}", text.encode())


def command_routes() -> tuple[Route, ...]:
    return (
        CommandRoute("Count", "/v1/toy/count", "transactions.post", CountBody, count),
        CommandRoute("CountFree", "/v1/toy/free", "transactions.post", CountBody, count, api_key=True),
        CommandRoute("CountSigned", "/v1/toy/signed", "transactions.post", CountBody, count, own_signature=True),
        CommandRoute("CountAsSteward", "/v1/toy/steward", "roles.grant", CountBody, count),
        BulkRoute(
            "CountMany",
            "/v1/toy/many",
            "readings.record",
            64,
            100,
            read_item,
            lambda answer, hit: {"status": "duplicate" if hit else "accepted", **answer},
        ),
    )


class NameParams(Params):
    name: Annotated[str, pydantic.Field(min_length=1, max_length=40)]
    limit: Annotated[int, pydantic.Field(ge=1, le=100)] = 10
    number: int = 0


@dataclass
class Community3:
    """The keys of a member without roles, a steward, and a node."""

    member: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    steward: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    node: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    limits: Limits = field(default_factory=Limits)
    public_views: bool = True

    @property
    def member_id(self) -> str:
        return member_id(raw_public(self.member))

    def facts(self) -> tuple[Emit, ...]:
        steward = member_id(raw_public(self.steward))
        node = node_id(raw_public(self.node))
        secret_hash = hashlib.sha256(SECRET.encode()).hexdigest()
        return (
            Emit("community", registry.CommunityFounded(self.document(), GENESIS)),
            Emit(
                self.member_id,
                registry.MemberRegistered(self.member_id, "ada", "human", public_key(raw_public(self.member))),
            ),
            Emit(steward, registry.MemberRegistered(steward, "bob", "human", public_key(raw_public(self.steward)))),
            Emit(steward, registry.RoleGranted(steward, "steward")),
            Emit(
                self.member_id,
                registry.ApiKeyIssued(self.member_id, KEY_ID, secret_hash, "reads", NOW_MS + 60_000),
            ),
            Emit(
                node,
                registry.NodeRegistered(
                    node=node,
                    owner=steward,
                    key=public_key(raw_public(self.node)),
                    zone="eu",
                    devices=(),
                    cpu_milli=4_000,
                    memory_mib=8_000,
                    window=registry.Window(),
                    security_baseline=1,
                    no_sensitive_data=True,
                    authorization="jws",
                ),
            ),
        )

    def document(self) -> Community:
        return Community(
            format="commons.genesis/1",
            name="toy",
            origin="toy.example",
            members=(Founder(handle="ada", kind="human", key=public_key(raw_public(self.member))),),
            currency=Currency(
                cap="0", initial_supply="0", emission_per_epoch="0", distribution=(Pool(name="p", share_ppm=1_000_000),)
            ),
            epochs=Epochs(zero="2026-01-01T00:00:00Z"),
            performance_tables=(),
            limits=self.limits,
            public_views=self.public_views,
        )


@dataclass
class ToyEdge:
    """A running edge. `now_ms` is the clock of everything; `missing` is what `/health/ready` reports."""

    app: FastAPI
    keys: Community3
    appender: Appender[toy.Counts]
    registry: Appender[int]
    feed: DirectoryFeed
    acks: Acknowledger
    clock: Clock
    missing: list[str]

    def client(self, key: Ed25519PrivateKey | None = None, **options: Any) -> SignedClient:
        """A client of the app itself, signing as the member unless told otherwise; it does not wait for 503s."""
        private = key or self.keys.member
        default = RequestSigner(private, now=lambda: self.clock.now_ms / 1_000)
        options = {"patience_seconds": 0, "transport": httpx.ASGITransport(self.app), "signer": default} | options
        return SignedClient(PUBLIC_URL, private, **options)

    def plain(self) -> httpx.AsyncClient:
        """A client that signs nothing."""
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.app), base_url=PUBLIC_URL)

    async def record(self, *emits: Emit) -> None:
        """Let the registry record facts."""
        command_id = str(self.registry.position)
        await self.registry.submit(Request(Record(tuple(emits)), "test", command_id, command_id.encode()))


@dataclass
class Clock:
    now_ms: int = NOW_MS

    def __call__(self) -> int:
        return self.now_ms


class AwayStore(MemoryStore):
    """A memory store whose sessions fail while `error` is set."""

    error: Exception | None = None

    def session(self) -> Any:
        if self.error is not None:
            raise self.error
        return super().session()


def queries(appender: Appender[toy.Counts]) -> tuple[QueryRoute, ...]:
    async def show(params: NameParams, context: QueryContext) -> Answer:
        if context.at_least.get("toy", 0) > appender.position:
            raise NotCaughtUp("the toy is behind", 3)
        if params.name == "gone":
            raise StoreUnavailable
        total = appender.state.counts.get(params.name)
        if total is None:
            raise NothingThere(f"nobody counted {params.name}")
        body = {"name": params.name, "total": total, "actor": context.actor, "limit": params.limit}
        return Answer(body, {"toy": appender.position})

    return (QueryRoute("counts", "/v1/views/counts/{name}", "views.read", NameParams, show),)


@asynccontextmanager
async def toy_edge(
    keys: Community3 | None = None,
    store: Store | None = None,
    nonces: Nonces | None = None,
    public_url: str = PUBLIC_URL,
    clock: Any = None,
    submit_seconds: float = 10,
    body_seconds: float = 10,
) -> AsyncIterator[ToyEdge]:
    """Serve the toy behind the edge; the community is founded before the first request."""
    keys, clock, missing = keys or Community3(), clock or Clock(), []
    catalog = Catalog([toy.Counted, *registry.FACTS])
    registry_store = MemoryStore("registry")
    feed = DirectoryFeed(registry_store, catalog)
    acks = Acknowledger.of(Ed25519PrivateKey.generate())

    async def ready() -> Sequence[str]:
        return missing

    async with AsyncExitStack() as stack:
        appenders: Mapping[str, Appender[Any]] = {
            "toy": Appender(toy.service(), store or MemoryStore("toy"), catalog, feed.current, b"key"),
            "registry": Appender(scripted_registry(), registry_store, catalog, feed.current, b"key"),
        }
        for appender in appenders.values():
            await appender.load()
            task = asyncio.create_task(appender.run())
            stack.callback(task.cancel)
        parts = make_parts(
            Settings(public_url, submit_seconds=submit_seconds, body_seconds=body_seconds),
            appenders=appenders,
            feed=feed,
            acknowledger=acks,
            nonces=nonces or MemoryNonces(clock),
            now_ms=clock,
            ready=ready,
        )
        app = build_app(parts, {"toy": command_routes()}, queries(appenders["toy"]))
        edge = ToyEdge(app, keys, appenders["toy"], appenders["registry"], feed, acks, clock, missing)
        await edge.record(*keys.facts())
        await feed.current()
        yield edge
