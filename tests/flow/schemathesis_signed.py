"""Runs schemathesis over every operation of a served edge, each call rightly signed (RFC 9421), and counts.

A fuzzer whose calls are all turned away at the door proves nothing, so the count of calls that came past the door
stands beside what they found. Bodies of `own_signature` routes are generated from the signed body's own schema and
wrapped into the caller's JWS just before they are sent.
"""

from __future__ import annotations

import copy
import json
import secrets
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import msgspec
import requests
import schemathesis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from requests.auth import AuthBase
from schemathesis import GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from infra.http.client import RequestSigner
from services.kernel.acks import Ack
from services.kernel.jws import parse_jws, sign_jws

KeyOf = Callable[[str], Ed25519PrivateKey]
"""Which key signs calls that need a permission: give one that has it."""

TURNED_AWAY = frozenset({401, 405, 413, 415, 429})
"""Answers to requests that did not get as far as being authenticated and read (and the router's own 404)."""

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@dataclass
class Calls:
    """What became of one operation's calls, by status; `authenticated` counts those that came past the door."""

    statuses: Counter[int] = field(default_factory=Counter)
    authenticated: int = 0

    @property
    def made(self) -> int:
        return self.statuses.total()

    def add(self, response: Response) -> None:
        """Count an answer. A signed command's acknowledgement says whether the server knew who asked."""
        self.statuses[response.status_code] += 1
        (ack,) = response.headers.get("commons-ack", [""])
        known = bool(ack) and msgspec.json.decode(parse_jws(ack).payload, type=Ack).actor is not None
        no_route = response.status_code == 404 and response.json()["detail"] == "Not Found"
        self.authenticated += known or not (no_route or response.status_code in TURNED_AWAY)


@dataclass
class _Operation:
    permission: str
    command: str | None


class _Signature(AuthBase):
    """Signs a prepared request with the key its operation needs."""

    def __init__(self, operation: _Operation, private: Ed25519PrivateKey, genesis: str) -> None:
        self.operation = operation
        self.signer = RequestSigner(private)
        self.genesis = genesis

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.pop("authorization", None)
        body = request.body.encode() if isinstance(request.body, str) else request.body
        if self.operation.command is not None and body is not None:
            body = self._wrap(body)
            request.prepare_body(body, None)
        elif request.method == "POST" and body is None:
            body = b""
        assert request.url is not None
        assert request.method is not None
        signed = self.signer.headers(request.method, request.url, body)
        request.headers.update(signed)
        return request

    def _wrap(self, body: bytes) -> bytes:
        try:
            json.loads(body)
        except ValueError:
            return body
        payload = {
            "command": self.operation.command,
            "genesis": self.genesis,
            "nonce": secrets.token_hex(16),
            "body": msgspec.Raw(body),
        }
        jws = sign_jws(self.signer.private, self.signer.kid, msgspec.json.encode(payload))
        return msgspec.json.encode({"jws": jws})


def run_signed(base_url: str, key_of: KeyOf, genesis: str, *, max_examples: int = 25) -> Mapping[str, Calls]:
    """Call every operation `max_examples` times with good bodies and as often with bad ones; return the counts.

    Raises schemathesis' failure for a 5xx or an answer the document does not describe, AssertionError for an
    operation of which under half of the calls were authenticated. Blocks: run it beside the server's loop in a thread.
    """
    document = requests.get(f"{base_url}/v1/openapi.json", timeout=10).json()
    plain, operations = _prepared(document)
    schema = schemathesis.openapi.from_dict(plain)
    found: dict[str, Calls] = {}
    for result in schema.get_all_operations():
        operation = result.ok()
        label = operation.label
        signature = _Signature(operations[label], key_of(operations[label].permission), genesis)
        calls = found[label] = Calls()
        with requests.Session() as session:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                _run(operation, mode, base_url, session, signature, calls, max_examples)
    for label, calls in found.items():
        told = f"{label}: {calls.authenticated} of {calls.made} calls authenticated ({dict(calls.statuses)})"
        assert calls.made, label
        assert 2 * calls.authenticated >= calls.made, told
    return found


def _run(
    operation: Any,
    mode: GenerationMode,
    base_url: str,
    session: requests.Session,
    signature: _Signature,
    calls: Calls,
    max_examples: int,
) -> None:
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    @hypothesis.settings(
        max_examples=max_examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    def call(case: Any) -> None:
        if signature.operation.command is not None and case.headers:
            case.headers.pop("Idempotency-Key", None)  # a signed command is named by the nonce inside
        if mode is GenerationMode.POSITIVE:
            case.body = _integers(case.body)
        response = case.call(base_url=base_url, session=session, auth=signature)
        calls.add(response)
        case.validate_response(response, checks=CHECKS)

    try:
        call()
    except hypothesis.errors.Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, f"no good call of {operation.label} could be generated"


def _integers(value: Any) -> Any:
    """Return the value with 3.0 written as 3: JSON Schema takes both for an integer, the strict parse takes one."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_integers(inner) for inner in value]
    if isinstance(value, dict):
        return {name: _integers(inner) for name, inner in value.items()}
    return value


def _prepared(document: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, _Operation]]:
    """Return the document with signed bodies laid open and without security schemes, and what each operation needs."""
    plain = copy.deepcopy(dict(document))
    plain["components"].pop("securitySchemes", None)
    operations: dict[str, _Operation] = {}
    for path in [path for path in plain["paths"] if path.startswith("/v1/sessions")]:
        del plain["paths"][path]  # nobody is authenticated there: tests/flow/test_wallet_sign_in.py has its bad input
    for path, methods in plain["paths"].items():
        for method, operation in methods.items():
            operation.pop("security", None)
            operation["parameters"] = [
                parameter for parameter in operation.get("parameters", ()) if parameter["name"] != "Commons-At-Least"
            ]
            signed = operation.pop("x-signed-body", None)
            if signed is not None:
                operation["requestBody"]["content"]["application/json"]["schema"] = signed
            command = operation["operationId"].partition(".")[2] if signed is not None else None
            operations[f"{method.upper()} {path}"] = _Operation(operation["x-permission"], command)
    return plain, operations
