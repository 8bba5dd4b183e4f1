"""The edge of metering: signatures and form, before any rule."""

from __future__ import annotations

from typing import Any

import msgspec
import pydantic
import pytest

from events.metering import ChallengeResult, Content
from services.kernel.errors import AuthenticationFailed, InvalidField, MalformedRequest, TooLarge
from services.kernel.jws import sign_jws
from services.kernel.routes import BulkRoute, Caller, CommandRoute
from services.metering.api import MAX_BATCH_BYTES, ChallengeResultsBody, LeasesBody, answer_element, routes
from services.metering.batches import MAX_PAYLOAD_BYTES, payload_bytes
from services.metering.commands import LeaseTerms, RecordChallengeResults, RecordReadings
from tests.metering_world import MINUTE, NOW_MS, World, batch, device, key_of, lease_id, member, node, private_key

NODE = "one"


def route(name: str) -> Any:
    return next(one for one in routes() if one.name == name)


@pytest.fixture
def caller() -> Caller:
    world = World().with_node(NODE).with_node("two")
    return Caller(node(NODE), key_of(NODE).kid, world.spec.directory)


def jws(signer: str = NODE, of: str = NODE, count: int = 1) -> str:
    readings = [(device(of), lease_id("a"), NOW_MS + one, NOW_MS + MINUTE, 1_000) for one in range(count)]
    return batch(of, readings, real=True, signer=signer)


def test_a_batch_is_a_command_whose_id_is_its_payload_s_hash(caller: Caller) -> None:
    bulk = route("RecordReadings")
    assert isinstance(bulk, BulkRoute)
    item = bulk.read(jws(), caller)
    assert item.command == RecordReadings(jws())
    assert (len(item.command_id), item.inputs.hex()) == (64, item.command_id)


@pytest.mark.parametrize(("signer", "of"), [("two", NODE), (NODE, "two"), ("two", "two"), ("provider", NODE)])
def test_a_batch_by_another_key_than_its_node_s_is_refused(caller: Caller, signer: str, of: str) -> None:
    with pytest.raises(AuthenticationFailed):
        route("RecordReadings").read(jws(signer, of), caller)


def test_a_wrong_signature_is_refused(caller: Caller) -> None:
    head, _, signature = jws().rpartition(".")
    wrong = ("A" if signature[0] != "A" else "B") + signature[1:]
    with pytest.raises(AuthenticationFailed):
        route("RecordReadings").read(f"{head}.{wrong}", caller)


def test_a_changed_payload_is_refused(caller: Caller) -> None:
    head, payload, signature = jws().split(".")
    other = jws(count=2).split(".")[1]
    assert payload != other
    with pytest.raises(AuthenticationFailed):
        route("RecordReadings").read(f"{head}.{other}.{signature}", caller)


def test_a_batch_over_40_kib_is_too_large(caller: Caller) -> None:
    big = jws(count=1_200)
    assert len(big) > MAX_BATCH_BYTES
    with pytest.raises(TooLarge):
        route("RecordReadings").read(big, caller)


def test_the_largest_batch_passes_the_size_of_an_element(caller: Caller) -> None:
    payload = payload_bytes(jws(count=900)).ljust(MAX_PAYLOAD_BYTES)
    largest = sign_jws(private_key(NODE), key_of(NODE).kid, payload)
    assert len(largest) <= MAX_BATCH_BYTES
    assert route("RecordReadings").read(largest, caller).command_id


def test_a_batch_that_gives_a_key_twice_is_malformed(caller: Caller) -> None:
    payload = b'{"node":"x","node":"%s","number":0,"devices":[],"leases":[],"readings":[[0,0,0,1,1]]}'
    text = sign_jws(private_key(NODE), key_of(NODE).kid, payload % node(NODE).encode())
    with pytest.raises(MalformedRequest):
        route("RecordReadings").read(text, caller)


def test_an_answer_tells_accepted_from_duplicate() -> None:
    assert answer_element({"readings": 3}, hit=False) == {"status": "accepted", "readings": 3}
    assert answer_element({"readings": 3}, hit=True)["status"] == "duplicate"


def results(genesis: str = "0" * 64, of: str = NODE) -> bytes:
    made = ChallengeResult(
        "c", device(of), "T4", "infer", "resnet50-offline", "00", "11", NOW_MS - MINUTE, NOW_MS, "5600"
    )
    return msgspec.json.encode({"genesis": genesis, "node": node(of), "results": [made]})


@pytest.fixture
def steward(caller: Caller) -> Caller:
    return Caller(member("operator"), key_of("operator").kid, caller.directory)


def by(name: str, payload: bytes) -> str:
    return sign_jws(private_key(name), key_of(name).kid, payload)


def test_results_are_signed_by_steward_and_node(steward: Caller) -> None:
    body = ChallengeResultsBody(challenger_jws=by("operator", results()), node_jws=by(NODE, results()))
    command = route("RecordChallengeResults").command(body, steward)
    assert isinstance(command, RecordChallengeResults)
    assert (command.node, command.results[0].throughput) == (node(NODE), "5600")


@pytest.mark.parametrize(
    ("challenger", "answer", "refusal"),
    [
        (by("provider", results()), by(NODE, results()), AuthenticationFailed),
        (by("operator", results()), by("two", results()), AuthenticationFailed),
        (by("operator", results()), by(NODE, results("1" * 64)), AuthenticationFailed),
        (by("operator", results("1" * 64)), by(NODE, results("1" * 64)), InvalidField),
        (by("operator", results()[:-1]), None, MalformedRequest),
        (by("operator", results().replace(b'"node"', b'"node":"x","node"')), None, MalformedRequest),
        (by("operator", results().replace(b"5600", b"5600\\u0000")), None, MalformedRequest),
        (by("operator", results().replace(b'"seed"', b'"sown"')), None, MalformedRequest),
    ],
)
def test_results_signed_otherwise_are_refused(
    steward: Caller, challenger: str, answer: str | None, refusal: type[Exception]
) -> None:
    body = ChallengeResultsBody(challenger_jws=challenger, node_jws=answer)
    with pytest.raises(refusal):
        route("RecordChallengeResults").command(body, steward)


def test_lease_terms_pass_from_the_body_to_the_command(caller: Caller) -> None:
    body = LeasesBody.model_validate(
        {"project": "p", "leases": [{"lease": "0" * 32, "share": 500, "start_ms": 1, "end_ms": 2, "models": ["T4"]}]}
    )
    signed = Caller(caller.actor, None, caller.directory, "jws")
    command = route("OpenLeases").command(body, signed)
    assert command.leases == (LeaseTerms("0" * 32, "gpu", 1, 500, 1, 2, ("T4",)),)
    assert command.authorization == "jws"


def test_what_storage_shall_hold_passes_from_the_body_to_the_command(caller: Caller) -> None:
    lease = {"lease": "0" * 32, "kind": "storage", "share": 1, "start_ms": 1, "end_ms": 2}
    content = {"root": "a" * 64, "bytes": 10}
    body = LeasesBody.model_validate({"project": "p", "leases": [lease | {"content": content}]})
    command = route("OpenLeases").command(body, Caller(caller.actor, None, caller.directory, "jws"))
    assert command.leases == (LeaseTerms("0" * 32, "storage", 0, 1, 1, 2, content=Content("a" * 64, 10)),)
    for spoiled in ({"root": "A" * 64}, {"bytes": 0}, {"more": 1}):
        with pytest.raises(pydantic.ValidationError):
            LeasesBody.model_validate({"project": "p", "leases": [lease | {"content": content | spoiled}]})


@pytest.mark.parametrize("changes", [{"share": 500.0}, {"share": "500"}, {"share": 0}, {"extra": 1}, {"lease": "x"}])
def test_lease_terms_of_another_form_are_refused(changes: dict) -> None:
    lease = {"lease": "0" * 32, "share": 500, "start_ms": 1, "end_ms": 2, **changes}
    with pytest.raises(pydantic.ValidationError):
        LeasesBody.model_validate({"project": "p", "leases": [lease]})


def test_what_spends_a_budget_carries_the_actor_s_own_signature() -> None:
    own = {one.name for one in routes() if isinstance(one, CommandRoute) and one.own_signature}
    assert own == {"OpenLeases", "CancelLease"}
