"""Commands as typed data: every route that asks for a signature can be signed by a wallet, and nothing gets lost."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pydantic
import pytest
from eth_account.messages import encode_typed_data

from services.kernel.directory import Directory
from services.kernel.errors import AuthenticationFailed, InvalidField
from services.kernel.ethereum import keccak256
from services.kernel.routes import Body, CommandRoute
from services.kernel.typed_commands import (
    command_types,
    digest,
    possession_statement,
    read_body,
    signed_text,
    signer_of,
    type_name,
    typed_command,
    wallet_domain,
)
from services.metering.api import routes as metering_routes
from services.registry.api import routes as registry_routes
from services.treasury.api import routes as treasury_routes
from tests.registry_world import World
from tests.wallet_edge import wallet

SIGNED = [
    route
    for route in (*registry_routes(), *metering_routes(), *treasury_routes())
    if isinstance(route, CommandRoute) and route.own_signature
]
DOMAIN = wallet_domain(World().state)


Short = Annotated[str, pydantic.Field(max_length=9)]


class InnerBody(Body):
    """A part."""

    name: str
    count: int = 0


class OuterBody(Body):
    """Everything a body may have."""

    text: str
    number: int = 0
    flag: bool = True
    maybe: str | None = None
    inner: InnerBody | None = None
    many: Annotated[tuple[InnerBody, ...], pydantic.Field(strict=False)] = ()
    words: Annotated[list[Annotated[str, pydantic.Field(max_length=9)]], pydantic.Field(max_length=9)] = pydantic.Field(
        default_factory=list
    )
    labels: dict[str, str] | None = None


FULL: dict[str, Any] = {
    "text": "x",
    "number": -5,
    "flag": False,
    "maybe": "",
    "inner": {"name": "a", "count": 2**53 - 1},
    "many": [{"name": "b", "count": 1}, {"name": "c", "count": 0}],
    "words": [],
    "labels": {"z": "1", "a": "2"},
}


def by_eth_account(data: dict[str, Any]) -> bytes:
    signable = encode_typed_data(full_message=data)
    return keccak256(b"\x19" + signable.version + signable.header + signable.body)


@pytest.mark.parametrize("route", SIGNED, ids=lambda route: route.name)
def test_every_field_of_a_signed_body_has_a_type_a_wallet_knows(route: CommandRoute) -> None:
    assert "nonce" not in route.body.model_fields
    seen: set[type[Any]] = set()
    waiting: list[Any] = [route.body]
    while waiting:
        model = waiting.pop()
        if model in seen:
            continue
        seen.add(model)
        for info in model.model_fields.values():
            assert type_name(_plain(info.annotation))
            waiting += [kind for kind in _parts(info.annotation) if isinstance(kind, type) and issubclass(kind, Body)]
    names = [kind.__name__.removesuffix("Body") for kind in seen if kind is not route.body]
    assert len(names) == len(set(names))
    assert not {route.name, "Entry", "EIP712Domain"} & set(names)


def _plain(annotation: Any) -> Any:
    from services.kernel import typed_commands  # noqa: PLC0415 - the one private name this test needs

    return typed_commands._plain(annotation)


def _parts(annotation: Any) -> list[Any]:
    inner = getattr(annotation, "__args__", ())
    return [annotation, *(part for each in inner for part in _parts(each))]


def test_a_body_becomes_a_message_and_comes_back_whole() -> None:
    data = typed_command(DOMAIN, "DoAll", OuterBody, FULL, "n1")
    assert read_body(OuterBody, data["message"]) == FULL
    assert OuterBody.model_validate_json(json.dumps(read_body(OuterBody, data["message"])))
    assert data["message"]["labels"] == [{"name": "a", "value": "2"}, {"name": "z", "value": "1"}]
    assert data["types"]["DoAll"] == [
        {"name": "nonce", "type": "string"},
        {"name": "text", "type": "string"},
        {"name": "number", "type": "int64"},
        {"name": "flag", "type": "bool"},
        {"name": "maybe", "type": "string"},
        {"name": "inner", "type": "Inner"},
        {"name": "many", "type": "Inner[]"},
        {"name": "words", "type": "string[]"},
        {"name": "labels", "type": "Entry[]"},
    ]
    assert digest(data) == by_eth_account(data)


def test_fields_that_are_not_set_stand_in_no_type() -> None:
    data = typed_command(DOMAIN, "DoAll", OuterBody, {"text": "x"}, "n1")
    assert set(data["types"]) == {"EIP712Domain", "DoAll"}
    assert [member["name"] for member in data["types"]["DoAll"]] == ["nonce", "text"]
    assert digest(data) == by_eth_account(data)
    assert digest(data) != digest(typed_command(DOMAIN, "DoAll", OuterBody, {"text": "x", "maybe": ""}, "n1"))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"text": "x", "more": 1}, "/more"),
        ({"text": None}, "null"),
        ({"text": "x", "inner": []}, "/inner: must be an object"),
        ({"text": "x", "inner": {"name": "a", "other": 1}}, "/inner/other"),
        ({"text": "x", "many": {}}, "array"),
        ({"text": "x", "many": []}, "empty array"),
        ({"text": "x", "many": [{"name": "a"}, {"name": "b", "count": 1}]}, "same fields"),
    ],
)
def test_a_body_that_no_type_covers_is_refused(body: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidField, match=told):
        command_types("DoAll", OuterBody, body)


@pytest.mark.parametrize(
    "labels",
    [
        "x",
        [1],
        [{"name": "a"}],
        [{"name": 1, "value": "x"}],
        [{"name": "b", "value": "1"}, {"name": "a", "value": "1"}],
        [{"name": "a", "value": "1"}, {"name": "a", "value": "2"}],
    ],
)
def test_entries_have_one_order_and_each_name_once(labels: Any) -> None:
    with pytest.raises(InvalidField, match="/labels"):
        read_body(OuterBody, {"text": "x", "labels": labels})


def test_a_fact_s_text_tells_who_signed_it_and_nothing_else_does() -> None:
    data = possession_statement(DOMAIN, "member/1", wallet("one").address)
    text = signed_text(data, wallet("one").sign_typed(data))
    assert signer_of(text) == wallet("one").address
    assert signer_of(text.replace("member/1", "member/2")) != wallet("one").address
    for broken in ("", "{}", "[]", "a.b.c", text[:-1]):
        with pytest.raises(AuthenticationFailed):
            signer_of(broken)


def test_before_the_founding_there_is_nothing_to_sign() -> None:
    with pytest.raises(AuthenticationFailed, match="no community"):
        wallet_domain(Directory())
