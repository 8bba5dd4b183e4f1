"""Everything bad that can arrive, sent to a real instance over HTTP: what it answers, and that it records nothing."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from infra.http.authorizations import authorize
from infra.keys import KeyDirectory, derive_key
from services.kernel.acks import request_hash
from tests.caller import Caller, ack_of, slug
from tests.instance import Instance
from tests.two_nodes import (
    DAY_MS,
    HISTORY_DAYS,
    HOUR_MS,
    LEASES,
    READINGS,
    Reading,
    World,
    community_of,
    ok,
    play_history,
    register,
    until,
)

TRANSACTIONS = "/v1/treasury/transactions"
ACCOUNTS = "/v1/treasury/accounts"
LABEL = "/v1/registry/nodes/label"


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, deployment: Callable[[Path], AbstractContextManager[Instance]]
) -> Iterator[World]:
    home: Path = tmp_path_factory.mktemp("bad-input") / "home"
    with deployment(home) as running:
        seed, now_ms = KeyDirectory(home).secret("operator"), time.time_ns() // 1_000_000 // 1_000 * 1_000
        nodes = [derive_key(seed, "bad-input", name).node for name in ("t4", "a10")]
        made = World(running, running.found(community_of(seed, nodes, now_ms)), now_ms)
        until(lambda: made.heads()["metering"] > 0 and made.heads()["treasury"] > 0)
        ok(register(made, "t4", "aurora", "T4"))
        ok(register(made, "a10", "cedar", "A10"))
        play_history(made)
        yield made
        for caller in made.callers.values():
            caller.close()


@contextmanager
def nothing_recorded(world: World) -> Iterator[None]:
    before = world.heads()
    yield
    assert world.heads() == before


def refused(response: httpx.Response, status: int, code: str) -> None:
    assert (response.status_code, slug(response)) == (status, code), response.text


def posting(world: World, amount: object) -> dict[str, Any]:
    return {"postings": [{"debit": world.key("lab").member, "credit": world.key("aurora").member, "amount": amount}]}


# --- bytes that are not the JSON they must be


@pytest.mark.parametrize(
    ("body", "told"),
    [
        pytest.param(b'{"node":', "not JSON", id="cut off"),
        pytest.param(b'{"node":"x","label":"a","label":"b"}', "stands twice", id="duplicate keys"),
        pytest.param(b'{"node":"x","label":"a\\u0000"}', "U+0000", id="U+0000"),
        pytest.param(b'{"node":"x","label":"a\x00"}', "not JSON", id="a raw NUL byte"),
        pytest.param(b'{"node":"x","label":1e3}', "no integer", id="a float"),
    ],
)
def test_malformed_json_is_refused(world: World, body: bytes, told: str) -> None:
    with nothing_recorded(world):
        response = world.caller("aurora").send(LABEL, body)
    refused(response, 400, "malformed-request")
    assert told in response.json()["detail"]
    assert ack_of(response, world.acks).refusal == "malformed-request"


@pytest.mark.parametrize(
    ("payload", "told"),
    [
        pytest.param(b'{"command":"BurnSupply","command":"BurnSupply"}', "stands twice", id="duplicate keys"),
        pytest.param(b'{"command":"BurnSupply","nonce":"a\\u0000"}', "U+0000", id="U+0000"),
        pytest.param(b"{", "not JSON", id="cut off"),
        pytest.param(b'{"command":"BurnSupply"}', "exactly the members", id="members missing"),
    ],
)
def test_a_signed_payload_is_read_as_strictly_as_a_body(world: World, payload: bytes, told: str) -> None:
    with nothing_recorded(world):
        response = world.caller("lab").command("/v1/treasury/burns", {"jws": world.key("lab").jws(payload)})
    refused(response, 400, "malformed-request")
    assert told in response.json()["detail"]


def test_unknown_fields_are_refused_with_their_name(world: World) -> None:
    body = {"node": world.key("t4").node, "label": "x", "colour": "red"}
    with nothing_recorded(world):
        response = world.caller("aurora").command(LABEL, body)
    refused(response, 422, "invalid-field")
    assert response.json()["errors"][0]["pointer"] == "/colour"


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({"colour": "red"}, id="an unknown field"),
        pytest.param({"number": 1.5}, id="a float"),
        pytest.param({"readings": [[0, 0, 1, 2]]}, id="a reading of four numbers"),
        pytest.param({"readings": []}, id="no reading"),
    ],
)
def test_a_batch_of_another_form_is_rejected(world: World, payload: Mapping[str, Any]) -> None:
    lease, start_ms = world.leased()
    with nothing_recorded(world):
        raw = world.batch("t4", lease, (0, 0, start_ms, start_ms + 1_000, 500), **payload)
        (answer,) = world.report("t4", raw)
    assert (answer["status"], answer["code"]) == ("rejected", "malformed-request")


def test_a_batch_with_a_key_twice_is_rejected(world: World) -> None:
    lease, start_ms = world.leased()
    raw = world.batch("t4", lease, (0, 0, start_ms, start_ms + 1_000, 500))
    with nothing_recorded(world):
        (answer,) = world.report("t4", raw[:-1] + b',"number":7}')
    assert (answer["status"], answer["code"]) == ("rejected", "malformed-request")


def test_another_media_type_is_refused(world: World) -> None:
    with nothing_recorded(world):
        response = world.caller("lab").send(ACCOUNTS, b"{}", {"content-type": "text/plain"})
    refused(response, 415, "unsupported-media-type")


# --- who asks


def test_a_command_without_a_signature_is_refused(world: World) -> None:
    with nothing_recorded(world):
        response = world.caller("lab").bare("POST", ACCOUNTS, b'{"slug":"a"}')
    refused(response, 401, "authentication-failed")
    assert "Signature" in response.headers["www-authenticate"]


def test_a_signature_over_another_body_is_refused(world: World) -> None:
    lab = world.caller("lab")
    headers = lab.headers("POST", ACCOUNTS, b'{"slug":"a"}')
    with nothing_recorded(world):
        response = lab.send(ACCOUNTS, b'{"slug":"b"}', headers)
    refused(response, 401, "authentication-failed")


def test_a_signature_that_was_changed_is_refused(world: World) -> None:
    lab = world.caller("lab")
    headers = lab.headers("POST", ACCOUNTS, b'{"slug":"a"}')
    label, _, value = headers["signature"].partition("=:")
    flipped = ("B" if value[0] == "A" else "A") + value[1:]
    with nothing_recorded(world):
        response = lab.send(ACCOUNTS, b'{"slug":"a"}', headers | {"signature": f"{label}=:{flipped}"})
    refused(response, 401, "authentication-failed")
    assert "does not verify" in response.json()["detail"]


def test_a_key_that_nobody_registered_is_refused(world: World) -> None:
    with nothing_recorded(world):
        response = world.caller("stranger").command(ACCOUNTS, {"slug": "a"})
    refused(response, 401, "authentication-failed")


def test_a_node_that_nobody_registered_records_nothing(world: World) -> None:
    raw = world.batch("t4", "0" * 32, (0, 0, 0, 1_000, 500), node=world.key("stranger").node)
    with nothing_recorded(world):
        response = world.caller("stranger").command(READINGS, [world.key("stranger").jws(raw)])
    refused(response, 401, "authentication-failed")


def test_a_request_sent_again_is_a_replay(world: World) -> None:
    lab, body = world.caller("lab"), b'{"slug":"replayed"}'
    headers = lab.headers("POST", ACCOUNTS, body)
    assert lab.send(ACCOUNTS, body, headers).status_code == 200
    with nothing_recorded(world):
        response = lab.send(ACCOUNTS, body, headers)
    refused(response, 401, "authentication-failed")
    assert "replay" in response.json()["detail"]


@pytest.mark.parametrize(("off_seconds", "told"), [(-400, "expired"), (400, "future"), (86_400 * 365, "future")])
def test_a_caller_whose_clock_is_off_is_told_so(world: World, off_seconds: int, told: str) -> None:
    caller = Caller(world.instance.url, world.key("lab"), world.genesis, now=lambda: time.time() + off_seconds)
    with nothing_recorded(world):
        response = caller.command(ACCOUNTS, {"slug": "a"})
    caller.close()
    refused(response, 401, "authentication-failed")
    assert told in response.json()["detail"]
    assert "clock" in response.json()["detail"]


def test_a_batch_signed_with_another_nodes_key_is_rejected(world: World) -> None:
    lease, start_ms = world.leased()
    raw = world.batch("t4", lease, (0, 0, start_ms, start_ms + 1_000, 500))
    with nothing_recorded(world):
        (answer,) = world.bulk("t4", world.key("a10").jws(raw))
    assert (answer["status"], answer["code"]) == ("rejected", "authentication-failed")


def test_a_node_that_speaks_for_another_is_rejected(world: World) -> None:
    lease, start_ms = world.leased()
    with nothing_recorded(world):
        (answer,) = world.report("a10", world.batch("t4", lease, (0, 0, start_ms, start_ms + 1_000, 500)))
    assert (answer["status"], answer["code"]) == ("rejected", "authentication-failed")


def test_a_command_authorized_with_anothers_key_is_refused(world: World) -> None:
    aurora = world.key("aurora")
    body = authorize(aurora.private, aurora.kid, world.genesis, "PostTransaction", posting(world, "1"))
    with nothing_recorded(world):
        response = world.caller("lab").command(TRANSACTIONS, body)
    refused(response, 401, "authentication-failed")


def test_an_authorization_for_another_community_is_refused(world: World) -> None:
    lab = world.key("lab")
    body = authorize(lab.private, lab.kid, "f" * 64, "PostTransaction", posting(world, "1"))
    with nothing_recorded(world):
        response = world.caller("lab").command(TRANSACTIONS, body)
    refused(response, 401, "authentication-failed")
    assert response.json()["genesis"] == world.genesis


# --- whether they may


@pytest.mark.parametrize(
    ("who", "name", "path"),
    [
        ("lab", "RegisterNode", "/v1/registry/nodes/register"),
        ("aurora", "OpenLeases", LEASES),
        ("aurora", "GrantRole", "/v1/registry/roles/grant"),
        ("lab", "RegisterMember", "/v1/registry/members/register"),
        ("steward", "CloseBackfill", "/v1/metering/backfill-closings"),
        ("operator", "RecordChallengeResults", "/v1/metering/challenge-results"),
        ("lab", "RecordReadings", READINGS),
        ("t4", "OpenAccount", ACCOUNTS),
    ],
)
def test_a_command_without_its_role_is_refused(world: World, who: str, name: str, path: str) -> None:
    with nothing_recorded(world):
        response = world.caller(who).authorized(name, path, {})
    refused(response, 403, "permission-denied")
    assert response.json()["permission"]


def test_only_the_owner_spends_a_projects_quota(world: World) -> None:
    start_ms = world.now_ms + HOUR_MS
    terms = {"lease": secrets.token_hex(16), "share": 100, "start_ms": start_ms, "end_ms": start_ms + HOUR_MS}
    with nothing_recorded(world):
        response = world.caller("cedar").authorized("OpenLeases", LEASES, {"project": "science", "leases": [terms]})
    refused(response, 409, "not-project-owner")


def test_an_api_key_reads_and_commands_only_what_moves_nothing(world: World) -> None:
    lab, key_id, secret, path = world.caller("lab"), "d" * 16, secrets.token_hex(16), "/v1/views/balances"
    issue = {
        "key_id": key_id,
        "secret_sha256": hashlib.sha256(secret.encode()).hexdigest(),
        "expires_ms": world.now_ms + HOUR_MS,
    }
    ok(lab.command("/v1/registry/api-keys/issue", issue))
    bearer = f"Bearer ck_{key_id}_{secret}"
    refused(lab.bare("GET", path), 401, "authentication-failed")
    refused(lab.bare("GET", path, authorization=f"Bearer ck_{key_id}_wrong"), 401, "authentication-failed")
    assert ok(lab.bare("GET", path, authorization=bearer))["items"]
    body = authorize(lab.key.private, lab.key.kid, world.genesis, "PostTransaction", posting(world, "1"))
    with nothing_recorded(world):
        refused(
            lab.bare("POST", TRANSACTIONS, msgspec.json.encode(body), authorization=bearer), 403, "permission-denied"
        )
        refused(lab.bare("POST", READINGS, b'["a.b.c"]', authorization=bearer), 403, "permission-denied")
    assert ok(lab.bare("POST", ACCOUNTS, b'{"slug":"by-api-key"}', authorization=bearer))["account"].endswith(
        "/by-api-key"
    )


# --- what does not exist


def test_an_unknown_node_is_refused(world: World) -> None:
    with nothing_recorded(world):
        response = world.caller("aurora").command(LABEL, {"node": f"node/{'0' * 32}", "label": "x"})
    refused(response, 409, "unknown-registered-node")


def test_an_unknown_device_is_rejected(world: World) -> None:
    lease, start_ms = world.leased()
    raw = world.batch("t4", lease, (0, 0, start_ms, start_ms + 1_000, 500), devices=[world.device("none")])
    with nothing_recorded(world):
        (answer,) = world.report("t4", raw)
    assert (answer["code"], answer["rejected"]) == ("no-reading-stands", {"unknown-device": [0]})


def test_a_device_of_another_node_is_rejected(world: World) -> None:
    lease, start_ms = world.leased()
    raw = world.batch("t4", lease, (0, 0, start_ms, start_ms + 1_000, 500), devices=[world.device("a10")])
    with nothing_recorded(world):
        (answer,) = world.report("t4", raw)
    assert answer["code"] == "no-reading-stands"


def test_a_device_outside_the_batchs_table_is_rejected(world: World) -> None:
    lease, start_ms = world.leased()
    with nothing_recorded(world):
        (answer,) = world.report("t4", world.batch("t4", lease, (7, 0, start_ms, start_ms + 1_000, 500)))
    assert answer["rejected"] == {"unknown-device": [0]}


def test_an_unknown_lease_is_rejected(world: World) -> None:
    _, start_ms = world.leased()
    with nothing_recorded(world):
        (answer,) = world.report("t4", world.batch("t4", "0" * 32, (0, 0, start_ms, start_ms + 1_000, 500)))
        response = world.caller("lab").authorized(
            "CancelLease", "/v1/metering/lease-cancellations", {"lease": "0" * 32}
        )
    assert (answer["code"], answer["rejected"]) == ("no-reading-stands", {"unknown-lease": [0]})
    refused(response, 409, "unknown-lease")


def test_an_unknown_account_project_and_path_are_refused(world: World) -> None:
    lab = world.caller("lab")
    body = {"postings": [{"debit": lab.key.member, "credit": f"member/{'0' * 32}", "amount": "1"}]}
    start_ms = world.now_ms + HOUR_MS
    terms = {"lease": secrets.token_hex(16), "share": 100, "start_ms": start_ms, "end_ms": start_ms + HOUR_MS}
    with nothing_recorded(world):
        refused(lab.authorized("PostTransaction", TRANSACTIONS, body), 409, "unknown-account")
        refused(lab.authorized("OpenLeases", LEASES, {"project": "none", "leases": [terms]}), 409, "unknown-project")
        refused(lab.command("/v1/treasury/nothing", {}), 404, "not-found")
        refused(lab.bare("GET", TRANSACTIONS), 405, "method-not-allowed")


# --- money


@pytest.mark.parametrize(
    ("amount", "status", "code"),
    [
        pytest.param(1.5, 400, "malformed-request", id="a float"),
        pytest.param(1.0, 400, "malformed-request", id="a float that is whole"),
        pytest.param(1, 422, "invalid-field", id="a number where text belongs"),
        pytest.param("1.5", 422, "invalid-field", id="a float as text"),
        pytest.param("1e6", 422, "invalid-field", id="an exponent"),
        pytest.param("-1", 422, "invalid-field", id="negative"),
        pytest.param("0", 422, "invalid-field", id="nothing"),
        pytest.param("٣", 422, "invalid-field", id="digits of another script"),
        pytest.param(str(2**63), 409, "amount-overflow", id="one above 64 bits"),
        pytest.param("9" * 40, 409, "amount-overflow", id="far above 64 bits"),
        pytest.param("9" * 41, 422, "invalid-field", id="longer than any amount"),
        pytest.param(str(2**63 - 1), 409, "insufficient-funds", id="more than there is"),
    ],
)
def test_an_amount_that_is_none_moves_nothing(world: World, amount: object, status: int, code: str) -> None:
    with nothing_recorded(world):
        response = world.caller("lab").authorized("PostTransaction", TRANSACTIONS, posting(world, amount))
    refused(response, status, code)


def test_nobody_spends_what_is_anothers(world: World) -> None:
    with nothing_recorded(world):
        response = world.caller("aurora").authorized("PostTransaction", TRANSACTIONS, posting(world, "1"))
    refused(response, 409, "not-account-owner")


# --- sizes


def test_a_batch_over_40_kib_is_rejected_and_one_of_40_kib_is_not(world: World) -> None:
    lease, start_ms = world.leased()
    exact = padded(world.batch("t4", lease, (0, 0, start_ms, start_ms + 500, 500)), 40 * 1_024)
    with nothing_recorded(world):
        (answer,) = world.report("t4", padded(exact, 40 * 1_024 + 1))
    assert (answer["status"], answer["code"]) == ("rejected", "too-large")
    (answer,) = world.report("t4", exact)
    assert answer["status"] == "accepted"


def test_one_batch_over_the_size_does_not_hide_the_others(world: World) -> None:
    lease, start_ms = world.leased()
    good = world.batch("t4", lease, (0, 0, start_ms + 500, start_ms + 900, 500))
    answers = world.report("t4", padded(good, 60_000), good)
    assert [answer["status"] for answer in answers] == ["rejected", "accepted"]


def padded(payload: bytes, size: int) -> bytes:
    return payload[:-1] + b" " * (size - len(payload)) + b"}"


def test_65_batches_in_one_request_are_refused(world: World) -> None:
    lease, start_ms = world.leased()
    reading = (0, 0, start_ms, start_ms + 100, 500)
    batches = [world.key("t4").jws(world.batch("t4", lease, reading)) for _ in range(65)]
    with nothing_recorded(world):
        refused(world.caller("t4").command(READINGS, batches), 413, "too-large")
        refused(world.caller("t4").command(READINGS, []), 422, "invalid-field")


def test_a_body_over_its_limit_is_refused_unread(world: World) -> None:
    with nothing_recorded(world):
        refused(world.caller("lab").send(TRANSACTIONS, b" " * 65_537), 413, "too-large")


def test_a_fact_over_65535_bytes_is_refused(world: World) -> None:
    """A hundred postings between long names stand in the fact twice: once plain, once in the signature."""
    lab = world.caller("lab")
    accounts = [ok(lab.command(ACCOUNTS, {"slug": letter * 64}))["account"] for letter in "ab"]
    ok(lab.authorized("PostTransaction", TRANSACTIONS, pairs([lab.key.member, accounts[0]], 1)))
    with nothing_recorded(world):
        response = lab.authorized("PostTransaction", TRANSACTIONS, pairs(accounts, 100) | {"metadata": LONG})
    refused(response, 413, "record-too-large")
    assert response.json()["limit"] == 65_535
    ok(lab.authorized("PostTransaction", TRANSACTIONS, pairs(accounts, 100)))


def pairs(accounts: Sequence[str], count: int) -> dict[str, Any]:
    one, two = accounts
    return {
        "postings": [
            {"debit": two if number % 2 else one, "credit": one if number % 2 else two, "amount": "1"}
            for number in range(count)
        ]
    }


LONG = {f"{number}" * 32: "x" * 256 for number in range(16)}


def test_a_batch_whose_faults_would_not_fit_in_its_fact_is_rejected(world: World) -> None:
    """The indexes of thousands of bad readings stand beside a batch of 40 KiB: together they pass 65,535 bytes."""
    lease, start_ms = world.leased()
    bad: list[Reading] = [(0, 0, 0, 0, 0)] * 3_300
    with nothing_recorded(world):
        raw = world.batch("t4", lease, (0, 0, start_ms, start_ms + 500, 500), *bad)
        assert len(raw) < 40 * 1_024
        (answer,) = world.report("t4", raw)
    assert (answer["status"], answer["code"]) == ("rejected", "record-too-large")


# --- readings


@pytest.mark.parametrize(
    ("start", "end", "level", "code"),
    [
        pytest.param(0, 301_000, 500, "too-long", id="301 s"),
        pytest.param(0, 1_000, 1_001, "level-out-of-range", id="level 1001"),
        pytest.param(0, 1_000, -1, "level-out-of-range", id="a level below 0"),
        pytest.param(1_000, 1_000, 500, "empty-interval", id="no time at all"),
        pytest.param(1_000, 0, 500, "empty-interval", id="backwards"),
        pytest.param(-1_000, 1_000, 500, "outside-lease", id="before the lease"),
        pytest.param(2 * HOUR_MS, 2 * HOUR_MS + 1_000, 500, "outside-lease", id="after the lease"),
        pytest.param(HOUR_MS // 2, HOUR_MS // 2 + 1_000, 500, "in-the-future", id="not yet"),
        pytest.param(-HISTORY_DAYS * DAY_MS, -HISTORY_DAYS * DAY_MS + 1_000, 500, "outside-lease", id="36 days ago"),
        pytest.param(DAY_MS, DAY_MS + 1_000, 500, "outside-lease", id="tomorrow"),
    ],
)
def test_a_reading_that_cannot_be_is_rejected(world: World, start: int, end: int, level: int, code: str) -> None:
    lease, start_ms = world.leased()
    with nothing_recorded(world):
        (answer,) = world.report("t4", world.batch("t4", lease, (0, 0, start_ms + start, start_ms + end, level)))
    assert (answer["status"], answer["code"]) == ("rejected", "no-reading-stands")
    assert answer["rejected"] == {code: [0]}


def test_a_reading_of_36_days_ago_is_rejected_even_where_a_lease_was(world: World) -> None:
    """What ended more than 35 days ago takes no readings, and its leases are known to the views alone."""
    opened = world.history["t4"]
    start_ms = world.now_ms - HISTORY_DAYS * DAY_MS
    with nothing_recorded(world):
        (answer,) = world.report("t4", world.batch("t4", opened["lease"], (0, 0, start_ms, start_ms + 1_000, 1_000)))
    assert answer["rejected"] == {"unknown-lease": [0]}


def test_a_reading_of_tomorrow_is_refused_even_where_a_lease_will_be(world: World) -> None:
    start_ms = world.now_ms + 23 * HOUR_MS
    (opened,) = ok(world.lease("T4", start_ms, start_ms + 2 * HOUR_MS))["leases"]
    reading = (0, 0, start_ms + HOUR_MS, start_ms + HOUR_MS + 1_000, 1_000)
    with nothing_recorded(world):
        (answer,) = world.report("t4", world.batch("t4", opened["lease"], reading))
    assert answer["rejected"] == {"in-the-future": [0]}


def test_one_bad_reading_does_not_hide_the_others(world: World) -> None:
    lease, start_ms = world.leased()
    good, bad = (0, 0, start_ms + 2_000, start_ms + 3_000, 500), (0, 0, start_ms, start_ms + 1_000, 1_001)
    (answer,) = world.report("t4", world.batch("t4", lease, good, bad))
    assert (answer["status"], answer["rejected"]) == ("accepted", {"level-out-of-range": [1]})


def test_the_same_batch_again_is_a_duplicate(world: World) -> None:
    lease, start_ms = world.leased()
    raw = world.batch("t4", lease, (0, 0, start_ms + 4_000, start_ms + 5_000, 500))
    (first,) = world.report("t4", raw)
    with nothing_recorded(world):
        (again,) = world.report("t4", raw)
    assert (first["status"], again["status"]) == ("accepted", "duplicate")
    assert again["position"] == first["position"]


# --- leases


def test_an_oversubscribed_lease_is_refused(world: World) -> None:
    start_ms = world.now_ms + 12 * HOUR_MS
    ok(world.lease("T4", start_ms, start_ms + HOUR_MS, share=600))
    with nothing_recorded(world):
        response = world.lease("T4", start_ms + HOUR_MS // 2, start_ms + 2 * HOUR_MS, share=401)
        too_much = world.lease("T4", start_ms + 4 * HOUR_MS, start_ms + 5 * HOUR_MS, share=1_001)
    refused(response, 409, "oversubscribed")
    refused(too_much, 409, "oversubscribed")
    ok(world.lease("T4", start_ms + HOUR_MS // 2, start_ms + 2 * HOUR_MS, share=400))


@pytest.mark.parametrize(
    ("model", "start", "end", "code"),
    [
        pytest.param("T4", -HOUR_MS, HOUR_MS, "lease-start-out-of-range", id="an hour ago"),
        pytest.param("T4", 2 * DAY_MS, 2 * DAY_MS + HOUR_MS, "lease-start-out-of-range", id="the day after tomorrow"),
        pytest.param("T4", HOUR_MS, HOUR_MS + 1_000, "lease-duration-out-of-range", id="a second long"),
        pytest.param("T4", HOUR_MS, DAY_MS + 2 * HOUR_MS, "lease-duration-out-of-range", id="25 hours long"),
        pytest.param("H100", HOUR_MS, 2 * HOUR_MS, "no-node-suits", id="a model nobody has"),
    ],
)
def test_a_lease_that_cannot_be_is_refused(world: World, model: str, start: int, end: int, code: str) -> None:
    with nothing_recorded(world):
        response = world.lease(model, world.now_ms + start, world.now_ms + end, share=10)
    refused(response, 409, code)


def test_a_lease_between_linked_parties_is_taken_shown_and_earns_nothing(world: World) -> None:
    """Cedar used its own A10 for as long as lab used aurora's T4; only the T4 was paid."""
    assert world.history["a10"]["linked"] == "owner"
    assert world.history["t4"]["linked"] is None
    lab = world.caller("lab")
    (epoch,) = ok(lab.view("/v1/views/epochs"))["items"]
    balances = {
        name: int(ok(lab.view(f"/v1/views/balances/{world.key(name).member}"))["balance"])
        for name in ("aurora", "cedar")
    }
    assert int(epoch["paid"]) > 0
    assert balances == {"aurora": int(epoch["paid"]), "cedar": 0}
    start_ms = world.now_ms + 2 * HOUR_MS
    (opened,) = ok(world.lease("A10", start_ms, start_ms + HOUR_MS, "cedar"))["leases"]
    assert opened["linked"] == "owner"


# --- the same command again, and what an answer promises


def test_the_same_command_again_is_a_hit_and_with_other_inputs_refused(world: World) -> None:
    lab = world.caller("lab")
    first = lab.command(ACCOUNTS, {"slug": "once"}, "open once")
    with nothing_recorded(world):
        again = lab.command(ACCOUNTS, {"slug": "once"}, "open once")
        other = lab.command(ACCOUNTS, {"slug": "twice"}, "open once")
    assert "idempotency-hit" not in first.headers
    assert again.headers["idempotency-hit"] == "true"
    assert ok(again) == ok(first)
    refused(other, 409, "other-inputs")


def test_an_authorization_takes_effect_once(world: World) -> None:
    lab = world.caller("lab")
    first = lab.authorized("PostTransaction", TRANSACTIONS, posting(world, "7"), "pay 7")
    with nothing_recorded(world):
        again = lab.authorized("PostTransaction", TRANSACTIONS, posting(world, "7"), "pay 7")
        other = lab.authorized("PostTransaction", TRANSACTIONS, posting(world, "8"), "pay 7")
    assert ok(again)["position"] == ok(first)["position"]
    assert again.headers["idempotency-hit"] == "true"
    refused(other, 409, "other-inputs")


def test_an_acknowledgement_verifies_and_names_the_record(world: World) -> None:
    lab, body = world.caller("lab"), b'{"slug":"acknowledged"}'
    response = lab.send(ACCOUNTS, body)
    ack = ack_of(response, world.acks)
    position = ok(response)["position"]
    assert (ack.service, ack.position, ack.refusal) == ("treasury", position, None)
    assert ack.request_sha256 == request_hash("POST", world.instance.url + ACCOUNTS, body)
    entry = ok(lab.view(f"/v1/views/audit_trail/treasury/{position}", f"treasury={position}"))
    assert entry["record_sha256"] == ack.record_hash == hashlib.sha256(entry["record"].encode()).hexdigest()
    assert entry["intact"]
    assert json.loads(entry["record"])["actor"] == lab.key.member


def test_the_acknowledgement_of_a_bulk_covers_every_answer(world: World) -> None:
    lease, start_ms = world.leased()
    raw = world.batch("t4", lease, (0, 0, start_ms + 6_000, start_ms + 7_000, 500))
    response = world.caller("t4").command(READINGS, [world.key("t4").jws(raw), "a.b.c"])
    ack = ack_of(response, world.acks)
    assert ack.answer_sha256 == hashlib.sha256(response.content).hexdigest()
    assert ack.position == response.json()[0]["position"]


def test_a_query_beyond_the_head_says_when_to_come_again(world: World) -> None:
    head = world.heads()["treasury"]
    began = time.monotonic()
    response = world.caller("lab").view("/v1/views/balances", f"treasury={head + 1_000}")
    refused(response, 503, "unavailable")
    assert response.headers["retry-after"].isdecimal()
    assert time.monotonic() - began > 4, "it waits for five seconds first"


def test_a_query_at_a_position_waits_for_it_and_reflects_it(world: World) -> None:
    lab = world.caller("lab")
    for number in range(5):
        answered = ok(lab.command(ACCOUNTS, {"slug": f"seen-{number}"}))
        path = f"/v1/views/balances/{answered['account']}"
        response = lab.view(path, f"treasury={answered['position']}")
        assert ok(response)["account"] == answered["account"]
        reflected = dict(part.split("=") for part in response.headers["commons-position"].split(", "))
        assert int(reflected["treasury"]) >= int(answered["position"])


@pytest.mark.parametrize("stated", ["treasury", "treasury=-1", "treasury=1,treasury=2", "Treasury=1", "treasury=1.5"])
def test_positions_that_are_none_are_refused(world: World, stated: str) -> None:
    refused(world.caller("lab").view("/v1/views/balances", stated), 422, "invalid-field")


def test_afterwards_everything_is_still_sound(world: World) -> None:
    assert world.instance.json("doctor")["sound"]
    assert all(view["equal"] for view in world.instance.json("rebuild")["views"])
