"""The OpenAPI side of routes: what each takes and answers, who may use it, and how to sign."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final

import pydantic
from pydantic.json_schema import models_json_schema

from infra.http.authorizations import MAX_COMMAND_ID
from infra.http.incoming import JSON
from projections.routes import QueryRoute
from services.kernel.problems import MEDIA_TYPE
from services.kernel.routes import BulkRoute, CommandRoute, Route, WorkingRoute

_REF: Final = "#/components/schemas/{model}"

_SIGNED: Final[dict[str, list[str]]] = {"signature": []}
_SESSION: Final[dict[str, list[str]]] = {"session": []}
_KEYED: Final[dict[str, list[str]]] = {"apiKey": []}

SECURITY_SCHEMES: Final = {
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Signature",
        "description": (
            "RFC 9421 with Ed25519. Covered: @method @target-uri content-type content-digest (a GET: @method "
            "@target-uri); idempotency-key may be covered too. Parameters: created expires nonce keyid alg, at most "
            "300 s from created to expires. keyid is the RFC 7638 thumbprint of the key."
        ),
    },
    "session": {
        "type": "http",
        "scheme": "bearer",
        "description": "A token of 15 minutes from POST /v1/sessions (EIP-4361). It signs no command that asks for it.",
    },
    "apiKey": {"type": "http", "scheme": "bearer", "description": "ck_<key id>_<secret>"},
}

_PLAIN_TEXT: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"
"""The strict parse takes no control characters in any text; texts with no narrower pattern say so."""

_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
    },
}
_JWS: Final = {
    "type": "object",
    "required": ["jws"],
    "additionalProperties": False,
    "properties": {
        "jws": {
            "type": "string",
            "description": (
                'Compact JWS (EdDSA, header exactly {"alg","kid"}) by the caller\'s key over {"command", "genesis", '
                '"nonce", "body"}; `body` has the schema of x-signed-body, the nonce names the command.'
            ),
        }
    },
}
_EIP712: Final = {
    "type": "object",
    "required": ["eip712"],
    "additionalProperties": False,
    "properties": {
        "eip712": {
            "type": "object",
            "required": ["types", "primaryType", "domain", "message", "signature"],
            "description": (
                "What eth_signTypedData_v4 was given, with the wallet's `signature` (65 bytes, low s, v 27 or 28). "
                "primaryType is the command's name; the message holds `nonce`, which names the command, and every "
                "field of x-signed-body that is set: texts are string, integers int64, booleans bool, nested objects "
                "structs, mappings arrays of Entry(string name,string value) sorted by name."
            ),
        }
    },
}
_COMMAND_ANSWER: Final = {
    "type": "object",
    "required": ["position", "first"],
    "properties": {"position": {"type": "string"}, "first": {"type": "string"}},
}
_BULK_ANSWER: Final = {"type": "array", "items": {"type": "object"}}

_COMMAND_PROBLEMS: Final = (400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 500, 503, 507)
_QUERY_PROBLEMS: Final = (400, 401, 403, 404, 422, 429, 500, 503)


def command_operation(route: Route, service: str) -> dict[str, Any]:
    """Return the operation object of a command, bulk or working route."""
    operation = _operation(route.name, service, route.permission, route.summary)
    if isinstance(route, BulkRoute):
        body: Mapping[str, Any] = {
            "type": "array",
            "minItems": 1,
            "maxItems": route.limit,
            "items": _plain_texts({"type": "string", "maxLength": route.element_bytes}),
        }
        answer: Mapping[str, Any] = _BULK_ANSWER
    elif isinstance(route, WorkingRoute):
        body, answer = {"$ref": _REF.format(model=route.body.__name__)}, {"type": "object"}
    else:
        body, answer = _body(route), _COMMAND_ANSWER
        operation["parameters"] = [_header("Idempotency-Key", "Names the command", MAX_COMMAND_ID)]
        if route.own_signature:
            operation["x-signed-body"] = {"$ref": _REF.format(model=route.body.__name__)}
    operation["security"] = [_SIGNED, _SESSION]
    if isinstance(route, CommandRoute) and route.api_key:
        operation["security"].append(_KEYED)
    if route.permission == "public":
        operation["security"] = [{}, *operation["security"]]
    operation["requestBody"] = {"required": True, "content": {JSON: {"schema": body}}}
    operation["responses"] = _responses(answer, _COMMAND_PROBLEMS)
    return operation


def session_operation(name: str, body: type[pydantic.BaseModel]) -> dict[str, Any]:
    """Return the operation object of a route of signing in: open to anyone, its answer no fact."""
    operation = _operation(name, "sessions", "public", "Sign in with a wallet (EIP-4361)")
    schema = {"$ref": _REF.format(model=body.__name__)}
    operation["security"] = [{}]
    operation["requestBody"] = {"required": True, "content": {JSON: {"schema": schema}}}
    operation["responses"] = _responses({"type": "object"}, (400, 401, 413, 415, 422, 429, 500, 503))
    return operation


def query_operation(route: QueryRoute) -> dict[str, Any]:
    """Return the operation object of a query route."""
    operation = _operation(route.name, "views", route.permission, route.summary)
    schema = route.params.model_json_schema(ref_template=_REF)
    in_path = {part.split("}")[0].split(":")[0] for part in route.path.split("{")[1:]}
    required = set(schema.get("required", ())) | in_path
    operation["parameters"] = [
        {
            "name": name,
            "in": "path" if name in in_path else "query",
            "required": name in required,
            "schema": _plain_texts(field),
        }
        for name, field in schema.get("properties", {}).items()
    ]
    operation["parameters"].append(_header("Commons-At-Least", "Positions the answer must reflect", 400))
    operation["security"] = [{}, _SIGNED, _SESSION, _KEYED] if route.api_key else [_SIGNED, _SESSION]
    operation["responses"] = _responses({}, _QUERY_PROBLEMS)
    return operation


def components(bodies: Iterable[type[pydantic.BaseModel]], queries: Iterable[QueryRoute]) -> dict[str, Any]:
    """Return the components every operation refers to; asserts that one name means one model."""
    models: dict[str, type[pydantic.BaseModel]] = {}
    for body in bodies:
        assert models.setdefault(body.__name__, body) is body, body.__name__
    _, made = models_json_schema([(model, "validation") for model in models.values()], ref_template=_REF)
    schemas = dict(made.get("$defs", {}))
    for query in queries:
        schemas |= query.params.model_json_schema(ref_template=_REF).get("$defs", {})
    return {"schemas": {**_plain_texts(schemas), "Problem": _PROBLEM}, "securitySchemes": SECURITY_SCHEMES}


def _plain_texts(schema: Any) -> Any:
    """Return the schema with the strict parse's rule stated for every text that has no pattern of its own."""
    if isinstance(schema, list):
        return [_plain_texts(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    made = {name: _plain_texts(inner) for name, inner in schema.items()}
    if made.get("type") == "string" and not {"pattern", "enum", "const", "format"} & set(made):
        made["pattern"] = _PLAIN_TEXT
    if made.get("type") == "object" and isinstance(made.get("additionalProperties"), dict):
        made.setdefault("propertyNames", {"pattern": _PLAIN_TEXT})
    return made


def _body(route: CommandRoute) -> Mapping[str, Any]:
    return {"oneOf": [_JWS, _EIP712]} if route.own_signature else {"$ref": _REF.format(model=route.body.__name__)}


def _operation(name: str, tag: str, permission: str, summary: str) -> dict[str, Any]:
    return {"operationId": f"{tag}.{name}", "tags": [tag], "summary": summary or name, "x-permission": permission}


def _header(name: str, description: str, longest: int) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1, "maxLength": longest}
    return {"name": name, "in": "header", "required": False, "description": description, "schema": schema}


def _responses(answer: Mapping[str, Any], problems: Iterable[int]) -> dict[str, Any]:
    found: dict[str, Any] = {"200": {"description": "OK", "content": {JSON: {"schema": answer}}}}
    for status in problems:
        content = {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}}
        found[str(status)] = {"description": HTTPStatus(status).phrase, "content": content}
    return found
