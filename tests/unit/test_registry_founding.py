"""Founding: one document, one commit, once."""

from __future__ import annotations

import msgspec
import pytest

from events.registry import CommunityFounded, MemberRegistered, PerformanceTableAdopted, RoleGranted
from services.kernel.snapshot import freeze, thaw
from services.registry.commands import FoundCommunity
from services.registry.errors import AlreadyFounded, CommunityUnsound
from services.registry.genesis import FOUNDER, founding_command_id, instant_ms, sha256
from services.registry.service import service
from services.registry.state import Directory
from tests.registry_world import World, community, member, registration
from tests.spec import Spec


def test_founding_turns_the_document_into_the_first_facts_with_its_hash_in_the_very_first() -> None:
    document = community()
    emits = Spec(service()).decide(FoundCommunity(document), FOUNDER)
    assert emits[0].stream == "community"
    assert emits[0].fact == CommunityFounded(document, sha256(document))
    kinds = [type(emit.fact) for emit in emits]
    assert kinds.count(MemberRegistered) == len(document.members)
    assert kinds.count(RoleGranted) == sum(len(founder.roles) for founder in document.members)
    assert kinds.count(PerformanceTableAdopted) == len(document.performance_tables)
    assert {emit.stream for emit in emits if isinstance(emit.fact, RoleGranted)} <= {
        member(founder.handle) for founder in document.members
    }


def test_the_directory_knows_the_founders_with_their_roles() -> None:
    state = World().state
    assert state.origin == "demo.commons.example"
    assert state.members[member("cedar")].roles == {"provider", "contributor"}
    assert state.handles["lab"] == member("lab")


def test_a_genesis_table_is_in_force_from_epoch_zero_so_that_backfills_find_it() -> None:
    facts = Spec(service()).when(FoundCommunity(community()), FOUNDER)
    adopted = [fact.effective_ms for fact in facts if isinstance(fact, PerformanceTableAdopted)]
    assert adopted == [instant_ms(community().epochs.zero)] * len(community().performance_tables)


def test_the_same_document_again_records_nothing() -> None:
    world = World()
    assert world.spec.when(FoundCommunity(community()), FOUNDER) == []


def test_the_command_id_follows_from_the_document() -> None:
    assert founding_command_id(community()) == founding_command_id(community())
    assert founding_command_id(community()) != founding_command_id(community(name="Another"))


def test_another_document_is_refused() -> None:
    world = World()
    with pytest.raises(AlreadyFounded) as caught:
        world.spec.when(FoundCommunity(community(name="Another")), FOUNDER)
    assert caught.value.fields["sha256"] == sha256(community())


def test_an_unsound_document_founds_nothing() -> None:
    currency = community().currency
    short = msgspec.structs.replace(currency, distribution=currency.distribution[:-1])
    with pytest.raises(CommunityUnsound) as caught:
        World(community(currency=short))
    assert "999900 ppm" in caught.value.fields["problems"][0]


def test_epoch_zero_never_lies_after_the_founding() -> None:
    epochs = msgspec.structs.replace(community().epochs, zero="2126-01-01T00:00:00Z")
    with pytest.raises(CommunityUnsound, match=r"epochs\.zero"):
        World(community(epochs=epochs))


def test_the_state_survives_a_snapshot() -> None:
    world = World()
    world.joins("one")
    world.when(registration("two", world.state.nodes[next(iter(world.state.nodes))].fact.devices), "basalt")
    assert thaw(freeze(world.state), Directory) == world.state
