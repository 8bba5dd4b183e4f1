"""The registry's routes: form, and the signatures inside bodies."""

from __future__ import annotations

from typing import Any

import msgspec
import pydantic
import pytest

from events.registry import Embodied
from services.kernel.errors import AuthenticationFailed, InvalidField
from services.kernel.jws import sign_jws
from services.kernel.roles import ANYONE, ROLES
from services.kernel.routes import Caller, CommandRoute
from services.registry import commands
from services.registry.api import routes
from services.registry.decide import DECIDE
from services.registry.keys import possession_payload
from tests.registry_world import World, device, gpu, key, member, node, private, registration

BY_NAME = {route.name: route for route in routes()}


def caller(world: World, handle: str = "aurora", actor: str | None = None) -> Caller:
    return Caller(actor or member(handle), key(handle).kid, world.state, "jws", b"{}")


def asked(name: str, body: dict[str, Any], who: Caller) -> Any:
    route = BY_NAME[name]
    assert isinstance(route, CommandRoute)
    return route.command(route.body.model_validate(body), who)


def key_body(name: str) -> dict[str, str]:
    return {"kid": key(name).kid, "x": key(name).x}


def possession(world: World, new: str, signer: str, subject: str | None = None, old: str = "aurora") -> str:
    subject = subject or member("aurora")
    payload = possession_payload(world.state.genesis_sha256, subject, key(old).kid, key(new).kid)
    return sign_jws(private(signer), key(signer).kid, payload)


def test_every_route_has_its_own_path_a_permission_somebody_signs_for_and_a_rule_behind_it() -> None:
    assert len({route.path for route in routes()}) == len(routes()) == len(BY_NAME)
    for route in routes():
        assert route.path.startswith("/v1/registry/"), route.path
        assert ROLES[route.permission], route.name
        assert ANYONE not in ROLES[route.permission], route.name
        assert getattr(commands, route.name) in DECIDE, route.name


def test_whatever_grants_changes_or_lowers_carries_the_actors_own_signature() -> None:
    unsigned = {route.name for route in routes() if isinstance(route, CommandRoute) and not route.own_signature}
    assert unsigned == {"IssueApiKey", "RevokeApiKey", "LabelNode"}


def test_an_api_key_only_labels() -> None:
    assert [route.name for route in routes() if isinstance(route, CommandRoute) and route.api_key] == ["LabelNode"]


def test_a_registration_body_becomes_the_command() -> None:
    body = {
        "key": key_body("one"),
        "zone": "FR",
        "devices": [
            {"device": device("one-gpu"), "kind": "gpu", "model": "T4", "capacity": 1_000, "memory_mib": 15_360}
        ],
        "cpu_milli": 8_000,
        "memory_mib": 16_384,
        "security_baseline": 1,
        "no_sensitive_data": True,
    }
    assert asked("RegisterNode", body, caller(World())) == registration("one", authorization="jws")
    body["embodied"] = {"grams_co2e": 1_283_000, "lifetime_hours": 35_040, "source": "datasheet"}
    made = registration("one", authorization="jws", embodied=Embodied(1_283_000, 35_040, "datasheet"))
    assert asked("RegisterNode", body, caller(World())) == made


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"node": 1},
        {"node": "n", "label": "x", "extra": 1},
        {"node": "n" * 81, "label": "x"},
        {"node": "n", "label": None},
    ],
)
def test_a_body_out_of_form_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        asked("LabelNode", body, caller(World()))


def test_a_count_is_no_float_no_text_and_not_negative() -> None:
    for hour in (1.0, "1", -1, True, 2**53):
        with pytest.raises(pydantic.ValidationError):
            asked("StateWindow", {"node": node("one"), "window": {"from_hour": hour}}, caller(World()))


def test_a_new_key_shows_that_somebody_holds_it() -> None:
    world = World()
    proof = possession(world, "aurora-2", "aurora-2")
    command = asked("RotateKey", {"key": key_body("aurora-2"), "possession": proof}, caller(world))
    assert command == commands.RotateKey(key("aurora").kid, key("aurora-2"), "jws", proof)


@pytest.mark.parametrize(
    ("signer", "subject", "old"),
    [("aurora", None, "aurora"), ("aurora-2", "basalt", "aurora"), ("aurora-2", None, "basalt")],
)
def test_a_possession_by_another_key_or_for_another_rotation_is_refused(
    signer: str, subject: str | None, old: str
) -> None:
    world = World()
    proof = possession(world, "aurora-2", signer, member(subject) if subject else None, old)
    with pytest.raises(AuthenticationFailed):
        asked("RotateKey", {"key": key_body("aurora-2"), "possession": proof}, caller(world))


def test_a_possession_whose_signature_was_changed_is_refused() -> None:
    world = World()
    head, payload, _ = possession(world, "aurora-2", "aurora-2").split(".")
    other = sign_jws(private("aurora-2"), key("aurora-2").kid, b"something else").split(".")[2]
    with pytest.raises(AuthenticationFailed, match="does not verify"):
        asked("RotateKey", {"key": key_body("aurora-2"), "possession": f"{head}.{payload}.{other}"}, caller(world))


def test_a_malformed_new_key_is_refused() -> None:
    world = World()
    body = {"key": {"kid": key("aurora-2").kid, "x": "AAAA"}, "possession": "a.b.c"}
    with pytest.raises(InvalidField):
        asked("RotateKey", body, caller(world))


def signed_answer(name: str, signer: str | None = None, **other: Any) -> str:
    signer = signer or name
    payload = {"challenge": "nonce-1", "device": device("g"), "answered_at_ms": 5, "digest": "beef", **other}
    return sign_jws(private(signer), key(signer).kid, msgspec.json.encode(payload))


def disputed() -> World:
    world = World()
    world.joins("one", (gpu("g"),))
    world.joins("two", (gpu("g"),), owner="basalt")
    return world


def test_each_answer_is_its_nodes_by_signature() -> None:
    texts = [signed_answer("one"), signed_answer("two")]
    command = asked("ReinstateNodes", {"device": device("g"), "answers": texts}, caller(disputed(), "steward"))
    assert command.answers == (
        commands.Answer(node("one"), device("g"), "nonce-1", 5, "beef", texts[0]),
        commands.Answer(node("two"), device("g"), "nonce-1", 5, "beef", texts[1]),
    )


@pytest.mark.parametrize("signer", ["aurora", "nobody"])
def test_an_answer_signed_by_no_node_is_refused(signer: str) -> None:
    texts = [signed_answer("one"), signed_answer("two", signer)]
    with pytest.raises(AuthenticationFailed):
        asked("ReinstateNodes", {"device": device("g"), "answers": texts}, caller(disputed(), "steward"))


@pytest.mark.parametrize("wrong", [{"answered_at_ms": 5.5}, {"extra": 1}, {"digest": None}])
def test_an_answer_out_of_form_is_refused(wrong: dict[str, Any]) -> None:
    texts = [signed_answer("one"), signed_answer("two", **wrong)]
    with pytest.raises(InvalidField):
        asked("ReinstateNodes", {"device": device("g"), "answers": texts}, caller(disputed(), "steward"))
