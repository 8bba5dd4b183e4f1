"""Routes of metering: signatures and form are checked here, no rule stands here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
import pydantic

from events.metering import ChallengeResult, Content
from events.registry_terms import DeviceKind
from services.kernel.directory import Key
from services.kernel.errors import AuthenticationFailed, InvalidField, MalformedRequest, TooLarge
from services.kernel.jws import Jws, parse_jws
from services.kernel.routes import Body, BulkRoute, Caller, CommandRoute, Item, Route
from services.kernel.strict_json import parse_json
from services.metering.batches import MAX_LEVEL, MAX_PAYLOAD_BYTES, read_batch
from services.metering.commands import (
    CancelLease,
    CloseBackfill,
    LeaseTerms,
    NameBackfillNodes,
    OpenLeases,
    RecordChallengeResults,
    RecordConsumerReadings,
    RecordReadings,
)
from services.metering.consumer import read_consumer_batch
from services.metering.placement import BYTES_PER_MB

MAX_BATCHES: Final = 64
MAX_BATCH_BYTES: Final = (MAX_PAYLOAD_BYTES + 2) // 3 * 4 + 400
"""A compact JWS over the largest payload: base64url of it, header, signature and two dots."""

MAX_JWS: Final = 65_000
Id = Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{32}$", examples=["0" * 32])]
Slug = Annotated[str, pydantic.Field(min_length=1, max_length=64)]
Millis = Annotated[int, pydantic.Field(ge=0, lt=2**53)]


class ContentBody(Body):
    """What a lease of storage holds: how many bytes, and the RFC 6962 Merkle root (hex) over its chunks of 512 bytes.

    The last chunk is padded by zeros. Encrypt what you store: chunks that are asked for appear in the log.
    """

    root: Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{64}$", examples=["0" * 64])]
    bytes: Annotated[int, pydantic.Field(ge=1, le=MAX_LEVEL * BYTES_PER_MB)]


class LeaseBody(Body):
    """One lease asked for: an id of the consumer's choice, what kind, how much of how many devices, and when.

    `share` is milli per device (gpu), milli-cores (cpu), MB (storage: its content's, rounded up) or kB/s (bandwidth).
    Only GPUs have `devices` (left out: 1) and `models`, the models it accepts.
    """

    lease: Id
    kind: DeviceKind = "gpu"
    devices: Annotated[int, pydantic.Field(ge=0, le=64)] | None = None
    share: Annotated[int, pydantic.Field(ge=1, lt=2**31)]
    start_ms: Millis
    end_ms: Millis
    models: Annotated[tuple[str, ...], pydantic.Field(strict=False, max_length=32)] = ()
    renews: Id | None = None
    content: ContentBody | None = None


class LeasesBody(Body):
    """1..50 leases of one project, all or none."""

    project: Slug
    leases: Annotated[tuple[LeaseBody, ...], pydantic.Field(strict=False, min_length=1)]


class CancellationBody(Body):
    """A lease that ends now."""

    lease: Id


class BackfillNodesBody(Body):
    """A page of a backfill's nodes: at most 1,000 sorted ids, pages in order from 0 (0 begins anew)."""

    backfill: Slug
    page: Annotated[int, pydantic.Field(ge=0, lt=2**31)]
    nodes: Annotated[tuple[str, ...], pydantic.Field(strict=False, min_length=1, max_length=1_000)]


class BackfillBody(Body):
    """A backfill whose history is complete."""

    backfill: Slug


class ChallengeResultsBody(Body):
    """Two compact JWS over the same bytes: the calling steward's and, when the node answered, the node's.

    The payload is `{"genesis": <hex>, "node": <id>, "results": [1..50 results]}`.
    """

    challenger_jws: Annotated[str, pydantic.Field(max_length=MAX_JWS)]
    node_jws: Annotated[str, pydantic.Field(max_length=MAX_JWS)] | None = None


class ChallengePayload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What steward and node sign about challenge results; `genesis` binds it to one community."""

    genesis: str
    node: str
    results: tuple[ChallengeResult, ...]


def signed_by(caller: Caller) -> str:
    """Return the caller's JWS; the edge has checked that it is there."""
    assert caller.authorization is not None
    return caller.authorization


def _open(body: LeasesBody, caller: Caller) -> OpenLeases:
    return OpenLeases(body.project, tuple(map(_terms, body.leases)), signed_by(caller))


def _terms(lease: LeaseBody) -> LeaseTerms:
    content = Content(lease.content.root, lease.content.bytes) if lease.content else None
    devices = int(lease.kind == "gpu") if lease.devices is None else lease.devices
    return LeaseTerms(**lease.model_dump(exclude={"content", "devices"}), devices=devices, content=content)


def _cancel(body: CancellationBody, caller: Caller) -> CancelLease:
    return CancelLease(body.lease, signed_by(caller))


def _name_nodes(body: BackfillNodesBody, _caller: Caller) -> NameBackfillNodes:
    return NameBackfillNodes(body.backfill, body.page, body.nodes)


def _close_backfill(body: BackfillBody, _caller: Caller) -> CloseBackfill:
    return CloseBackfill(body.backfill)


def verified(text: str, subject: str, caller: Caller) -> Jws:
    """Return a JWS whose living key belongs to `subject`; raises AuthenticationFailed."""
    jws = parse_jws(text)
    key: Key | None = caller.directory.keys.get(jws.kid)
    if key is None or key.subject != subject:
        raise AuthenticationFailed(f"the JWS is not signed by a living key of {subject}", kid=jws.kid)
    jws.verify(key.raw)
    return jws


def _record_results(body: ChallengeResultsBody, caller: Caller) -> RecordChallengeResults:
    signed = verified(body.challenger_jws, caller.actor, caller)
    try:
        payload = msgspec.convert(parse_json(signed.payload), ChallengePayload)
    except msgspec.ValidationError as error:
        raise MalformedRequest(f"the signed results do not parse: {error}") from error
    if payload.genesis != caller.directory.genesis_sha256:
        raise InvalidField("the results are signed for another community", field="genesis")
    if body.node_jws is not None and verified(body.node_jws, payload.node, caller).payload != signed.payload:
        raise AuthenticationFailed("steward and node signed different results")
    return RecordChallengeResults(payload.node, payload.results, body.challenger_jws, body.node_jws)


def read_element(element: str, caller: Caller) -> Item:
    """Check one batch: its form, and that its node's own living key signed it. Raises CommonsError."""
    if len(element) > MAX_BATCH_BYTES:
        raise TooLarge(f"a batch has at most {MAX_PAYLOAD_BYTES} bytes", limit=MAX_PAYLOAD_BYTES)
    jws = parse_jws(element)
    key = caller.directory.keys.get(jws.kid)
    if key is None or key.subject != caller.actor:
        raise AuthenticationFailed("a node signs its own readings with its living key", kid=jws.kid)
    jws.verify(key.raw)
    batch = read_batch(element)
    if batch.node != caller.actor:
        raise AuthenticationFailed("the batch names another node than the one that signed it", node=batch.node)
    return Item(RecordReadings(element), batch.batch, bytes.fromhex(batch.batch))


def read_consumer_element(element: str, caller: Caller) -> Item:
    """Check one batch of a consumer: its form, and that the caller's own living key signed it. Raises CommonsError."""
    if len(element) > MAX_BATCH_BYTES:
        raise TooLarge(f"a batch has at most {MAX_PAYLOAD_BYTES} bytes", limit=MAX_PAYLOAD_BYTES)
    verified(element, caller.actor, caller)
    batch = read_consumer_batch(element)
    return Item(RecordConsumerReadings(element), batch.batch, bytes.fromhex(batch.batch))


def answer_element(answer: Mapping[str, Any], hit: bool) -> Mapping[str, Any]:  # noqa: FBT001 - the route's shape
    """Return the answer for one batch: `accepted` or `duplicate`, with the code of every reading that was rejected."""
    return {"status": "duplicate" if hit else "accepted", **answer}


def routes() -> tuple[Route, ...]:
    """Return metering's routes."""
    readings = BulkRoute(
        "RecordReadings",
        "/v1/metering/readings",
        "readings.record",
        MAX_BATCHES,
        MAX_BATCH_BYTES,
        read_element,
        answer_element,
        "Record up to 64 signed batches of readings",
    )
    consumer_readings = BulkRoute(
        "RecordConsumerReadings",
        "/v1/metering/consumer-readings",
        "leases.manage",
        MAX_BATCHES,
        MAX_BATCH_BYTES,
        read_consumer_element,
        answer_element,
        "Record up to 64 signed batches of the consumer's side",
    )
    return readings, consumer_readings, *_lease_routes(), *_steward_routes()


def _lease_routes() -> tuple[Route, ...]:
    return (
        CommandRoute(
            "OpenLeases",
            "/v1/metering/leases",
            "leases.manage",
            LeasesBody,
            _open,
            own_signature=True,
            summary="Open 1..50 leases on a project's quota",
        ),
        CommandRoute(
            "CancelLease",
            "/v1/metering/lease-cancellations",
            "leases.manage",
            CancellationBody,
            _cancel,
            own_signature=True,
            summary="End a lease now",
        ),
    )


def _steward_routes() -> tuple[Route, ...]:
    return (
        CommandRoute(
            "RecordChallengeResults",
            "/v1/metering/challenge-results",
            "challenges.record",
            ChallengeResultsBody,
            _record_results,
            summary="Record 1..50 challenge results of one node",
        ),
        CommandRoute(
            "NameBackfillNodes",
            "/v1/metering/backfill-nodes",
            "backfills.manage",
            BackfillNodesBody,
            _name_nodes,
            summary="Name a page of a backfill's nodes",
        ),
        CommandRoute(
            "CloseBackfill",
            "/v1/metering/backfill-closings",
            "backfills.manage",
            BackfillBody,
            _close_backfill,
            summary="End a backfill; its epochs close",
        ),
    )
