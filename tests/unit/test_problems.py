from __future__ import annotations

import re

import pytest

from events.store import StoreFull, StoreRewound, StoreUnavailable
from services.kernel import errors
from services.kernel.errors import CommonsError, Refusal
from services.kernel.problems import STATUS, TYPE_PREFIX, problem, status_of


class TooTall(Refusal):
    slug = "too-tall"
    title = "Too tall"

    def __init__(self, height: int) -> None:
        super().__init__(f"{height} is too tall", height=height, status="ignored")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.TooLarge("x"), 413),
        (errors.RecordTooLarge("x"), 413),
        (errors.TooSlow("x"), 408),
        (errors.UnsupportedMedia("x"), 415),
        (errors.InvalidField("x"), 422),
        (errors.AuthenticationFailed("x"), 401),
        (errors.PermissionDenied("x"), 403),
        (errors.OtherInputs("x"), 409),
        (errors.TooManyRequests("x", retry_after_seconds=7), 429),
        (errors.Unavailable("x"), 503),
        (errors.DiskFull("x"), 507),
        (errors.NotFound("x"), 404),
        (errors.MalformedRequest("x"), 400),
        (TooTall(3), 409),
        (StoreUnavailable("secret address"), 503),
        (StoreFull("secret path"), 507),
        (ZeroDivisionError("secret"), 500),
        (StoreRewound.__new__(StoreRewound), 500),
    ],
)
def test_every_error_has_its_status_and_form(error: Exception, status: int) -> None:
    found = problem(error)
    assert found.status == found.body["status"] == status
    assert found.body["type"] == TYPE_PREFIX + found.slug
    assert re.fullmatch(r"[a-z0-9-]+", found.slug)
    assert found.body["title"]
    assert found.body["detail"]
    assert "secret" not in str(found.body)
    assert ("Retry-After" in found.headers) == (status in {429, 503})
    assert ("WWW-Authenticate" in found.headers) == (status == 401)


def test_a_refusal_keeps_its_typed_fields_but_not_over_the_standard_members() -> None:
    body = problem(TooTall(3)).body
    assert body["height"] == 3
    assert body["status"] == 409


def test_when_to_ask_again_is_what_the_error_says() -> None:
    assert problem(errors.TooManyRequests("x", retry_after_seconds=7)).headers == {"Retry-After": "7"}


def test_every_class_of_the_tree_has_a_status_and_a_slug_of_its_own() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CommonsError)]
    assert all(status_of(kind) != 500 for kind in kinds if kind is not CommonsError)
    assert len({kind.slug for kind in kinds}) == len(kinds)
    assert set(STATUS) <= set(kinds)
