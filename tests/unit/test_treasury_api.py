"""Routes of the treasury: what they accept, what they make of it, what must be signed."""

from __future__ import annotations

from typing import Any

import pydantic
import pytest

from events.treasury import Posting
from services.kernel.directory import Directory
from services.kernel.routes import Caller, CommandRoute
from services.treasury.api import routes
from services.treasury.commands import BurnSupply, CloseAccount, OpenAccount, PostTransaction
from tests.treasury_given import ADA, BEN

ROUTES = {route.name: route for route in routes() if isinstance(route, CommandRoute)}
SIGNED = Caller(ADA, "kid", Directory(), "a.b.c", b"{}")


def command(name: str, body: dict[str, Any]) -> object:
    route = ROUTES[name]
    return route.command(route.body.model_validate(body), SIGNED)


def posting(**changes: object) -> dict[str, object]:
    return {"debit": ADA, "credit": BEN, "amount": "5", **changes}


def test_bodies_become_commands() -> None:
    assert command("PostTransaction", {"postings": [posting()], "memo": "hi", "metadata": {"a": "b"}}) == (
        PostTransaction((Posting(ADA, BEN, "5"),), "a.b.c", "hi", None, {"a": "b"})
    )
    assert command("OpenAccount", {"slug": "savings"}) == OpenAccount("savings")
    assert command("CloseAccount", {"account": f"{ADA}/x"}) == CloseAccount(f"{ADA}/x", "a.b.c")
    assert command("BurnSupply", {"account": ADA, "amount": "5"}) == BurnSupply(ADA, "5", "a.b.c")


def test_whatever_lowers_a_balance_or_a_right_carries_the_callers_signature() -> None:
    assert {name for name, route in ROUTES.items() if route.own_signature} == {
        "PostTransaction",
        "BurnSupply",
        "CloseAccount",
    }
    assert {name for name, route in ROUTES.items() if route.api_key} == {"OpenAccount"}


@pytest.mark.parametrize("amount", [1, 1.5, None, True, ["1"]])
def test_an_amount_that_is_no_text_is_refused_at_the_edge(amount: object) -> None:
    with pytest.raises(pydantic.ValidationError):
        command("PostTransaction", {"postings": [posting(amount=amount)]})


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"postings": []},
        {"postings": [posting()] * 101},
        {"postings": [posting(fee="1")]},
        {"postings": [posting()], "surprise": 1},
        {"postings": [posting()], "effective_ms": 1.5},
        {"postings": [posting()], "effective_ms": "1"},
        {"postings": [posting()], "metadata": {"a": 1}},
        {"postings": [posting()], "memo": "x" * 257},
    ],
)
def test_a_body_of_another_form_is_refused_at_the_edge(body: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        command("PostTransaction", body)
