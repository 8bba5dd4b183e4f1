"""Sealed profiles and their erasure: the rules, and the steps at the edge that see plain texts."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from typing import Any

import pytest

from events.registry import ProfileSealed, SubjectErased
from events.sealing import seal_text
from events.store import Head
from infra.subject_keys import MemorySubjectKeys
from services.kernel.decider import Command
from services.kernel.errors import InvalidField, OtherInputs, SubjectIsErased
from services.kernel.group import Group, Request
from services.kernel.routes import Caller, CommandRoute, WorkingRoute
from services.registry import bodies, commands, errors
from services.registry.profile_api import place_of, profile_routes
from services.registry.service import service
from tests.registry_world import World, member
from tests.spec import NOW_US

ADA, BEN = "aurora", "steward"
TEXTS: dict[str, str] = {"name": "Ada Lovelace", "about": "Countess of Lovelace, analyst"}


def erase(handle: str = ADA, **other: Any) -> commands.EraseSubject:
    return commands.EraseSubject(**{"member": member(handle), "authorization": "jws", **other})


def test_a_sealed_profile_replaces_the_one_before_it() -> None:
    world = World()
    (fact,) = world.when(commands.SealProfile({"name": "x", "about": "y"}, "jws"), ADA)
    assert fact == ProfileSealed(member(ADA), {"about": "y", "name": "x"}, "jws")
    assert len(world.when(commands.SealProfile({"name": "z"}, "jws"), ADA)) == 1


def test_an_empty_profile_is_refused() -> None:
    with pytest.raises(InvalidField):
        World().when(commands.SealProfile({}, "jws"), ADA)


def test_a_member_has_its_own_data_erased_and_seals_nothing_afterwards() -> None:
    world = World()
    assert world.when(erase(), ADA) == [SubjectErased(member(ADA), "jws")]
    assert member(ADA) in world.state.erased
    with pytest.raises(SubjectIsErased):
        world.when(commands.SealProfile({"name": "x"}, "jws"), ADA)
    with pytest.raises(SubjectIsErased):
        world.when(erase(), ADA)


def test_nobody_erases_another_ones_data_without_a_ruling() -> None:
    world = World()
    for other in (erase(), erase(authorization=None)):
        with pytest.raises(errors.NotTheSubject):
            world.when(other, BEN)
    with pytest.raises(errors.NotTheSubject):
        world.when(erase(authorization=None), ADA)
    ruling = erase(authorization=None, ruling="7c1e5a52-0d5e-8c4b-9a3f-2f6f0c8f2d11")
    assert world.when(ruling, BEN) == [SubjectErased(member(ADA), None, ruling.ruling)]


def test_a_stranger_has_nothing_to_erase() -> None:
    with pytest.raises(errors.UnknownMember):
        World().when(commands.EraseSubject("member/" + "0" * 32, "jws"), ADA)


# --- at the edge -------------------------------------------------------------------------------------------------


class Edge:
    """The routes over a key store in memory; chance is a counter."""

    def __init__(self) -> None:
        self.keys = MemorySubjectKeys()
        self.world = World()
        self.count = 0
        self.seal, self.submit, _ = profile_routes(self.keys, self._chance)

    def _chance(self, size: int) -> bytes:
        self.count += 1
        return hashlib.sha256(str(self.count).encode()).digest()[:size]

    def caller(self, handle: str = ADA) -> Caller:
        return Caller(member(handle), None, self.world.state, "jws", b"", "kid")

    async def sealed(self, texts: dict[str, str], handle: str = ADA) -> dict[str, str]:
        assert isinstance(self.seal, WorkingRoute)
        answer = await self.seal.answer(bodies.ProfileBody(**texts), self.caller(handle))
        found: dict[str, str] = answer["sealed"]
        return found

    async def read(self, sealed: dict[str, str], handle: str = ADA) -> Command:
        assert isinstance(self.submit, CommandRoute)
        body = bodies.SealProfileBody(sealed=bodies.SealedFieldsBody(**sealed))
        made = self.submit.command(body, self.caller(handle))
        return made if isinstance(made, Command) else await made


async def test_what_was_sealed_is_taken_back_as_it_is() -> None:
    edge = Edge()
    sealed = await edge.sealed(TEXTS)
    assert set(sealed) == set(TEXTS)
    assert await edge.read(sealed) == commands.SealProfile(sealed, "jws")  # type: ignore[arg-type]


async def test_the_same_text_never_seals_to_the_same_bytes() -> None:
    edge = Edge()
    assert await edge.sealed(TEXTS) != await edge.sealed(TEXTS)


async def test_another_subjects_sealed_text_is_refused() -> None:
    edge = Edge()
    await edge.sealed(TEXTS, BEN)
    with pytest.raises(InvalidField, match="another key"):
        await edge.read(await edge.sealed(TEXTS), BEN)


async def test_an_altered_sealed_text_is_refused() -> None:
    edge = Edge()
    sealed = await edge.sealed(TEXTS)
    text = sealed["name"]
    with pytest.raises(InvalidField, match="/sealed/name"):
        await edge.read({"name": text[:100] + ("A" if text[100] != "A" else "B") + text[101:]})


async def test_a_sealed_text_in_the_wrong_field_is_refused() -> None:
    edge = Edge()
    sealed = await edge.sealed(TEXTS)
    with pytest.raises(InvalidField, match="another place"):
        await edge.read({"legal_name": sealed["name"]})


async def test_a_text_sealed_by_somebody_elses_hand_is_refused() -> None:
    edge = Edge()
    await edge.sealed(TEXTS)
    with pytest.raises(InvalidField):
        await edge.read({"name": seal_text(bytes(32), place_of("name", member(ADA)), "Ada", bytes(12))})


async def test_before_anything_was_sealed_there_is_no_key() -> None:
    edge = Edge()
    with pytest.raises(InvalidField, match="profiles/seal first"):
        await edge.read({"name": seal_text(bytes(32), place_of("name", member(ADA)), "Ada", bytes(12))})


async def test_an_empty_request_seals_nothing_and_makes_no_key() -> None:
    edge = Edge()
    with pytest.raises(InvalidField):
        await edge.sealed({})
    assert await edge.keys.living() == {}


async def test_after_the_erasure_nothing_is_sealed_even_while_the_key_still_stands() -> None:
    edge = Edge()
    sealed = await edge.sealed(TEXTS)
    edge.world.when(erase(), ADA)
    with pytest.raises(SubjectIsErased):
        await edge.sealed(TEXTS)
    with pytest.raises(SubjectIsErased):
        await edge.read(sealed)


async def test_the_hash_of_the_inputs_is_keyed_by_the_subjects_own_key() -> None:
    edge = Edge()
    await edge.sealed(TEXTS)
    assert isinstance(edge.submit, CommandRoute)
    assert edge.submit.input_key is not None
    assert await edge.submit.input_key(edge.caller()) == await edge.keys.get(member(ADA))


def test_the_outcome_keeps_the_inputs_under_the_key_that_was_given() -> None:
    world, key = World(), hashlib.sha256(b"ada's own").digest()
    group: Group[Any] = Group(service(), world.state, Head(), NOW_US, world.state, {}, {}, input_key=b"the store's")
    asked = Request(commands.SealProfile({"name": "x"}, "jws"), member(ADA), "one", b"inputs", input_key=key)
    found = group.attempt([asked], [])
    assert isinstance(found, list)
    ((outcome, hit),) = found
    assert not hit
    assert outcome.inputs == hmac.digest(key, member(ADA).encode() + b"\0inputs", "sha256")
    assert isinstance(group.attempt([replace(asked, input_key=bytes(32))], []), OtherInputs)
