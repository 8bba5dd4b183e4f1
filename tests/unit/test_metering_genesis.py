"""What metering takes over from the registry: genesis, later tables, and a backfill's nodes."""

from __future__ import annotations

import msgspec
import pytest

from events.catalog import Recorded
from events.genesis import Backfill, BackfillSource
from events.metering import BackfillNodesNamed, BackfillOpened, QuotaGranted, RulesAdopted, TableAdopted
from events.registry import CommunityFounded, PerformanceTableAdopted
from services.kernel.errors import InvalidField
from services.metering.commands import AdoptGenesis, AdoptTable, CloseBackfill, NameBackfillNodes
from services.metering.decide.backfills import nodes_sha256
from services.metering.decide.genesis import table_sha256
from services.metering.errors import (
    BackfillAlreadyOpen,
    BackfillNodesMismatch,
    BackfillNotOpen,
    NotAdopted,
    PageOutOfOrder,
    SpansOverlap,
    UnknownBackfill,
)
from services.metering.policies import policies
from services.metering.service import service
from services.registry.genesis import table_sha256 as registry_table_sha256
from tests.metering_world import DAY, NOW_MS, TABLE, ZERO_MS, World, member, node
from tests.spec import Spec

NAMES = ("one", "two", "three")
SORTED = sorted(map(node, NAMES))


def recorded(fact: object) -> Recorded:
    return Recorded("registry", 1, "community", 1, NOW_MS * 1_000, "id", None, fact)


def test_genesis_becomes_rules_tables_quotas_and_backfills() -> None:
    world = World(backfill_days=2, backfill_nodes=NAMES)
    facts = Spec(service()).when(AdoptGenesis(world.community, NOW_MS))
    rules, table, quota, backfill = facts
    assert isinstance(rules, RulesAdopted)
    assert (rules.epoch_zero_ms, rules.epoch_ms, rules.close_after_ms) == (ZERO_MS, DAY, 2 * DAY)
    assert rules.first_live_epoch == 100
    assert isinstance(table, TableAdopted)
    assert (table.table, table.effective_ms) == (TABLE, ZERO_MS)
    assert isinstance(quota, QuotaGranted)
    assert (quota.owner, quota.guild, quota.source) == (member("consumer"), "users", "genesis")
    assert (backfill.start_ms, backfill.end_ms, backfill.node_count) == (ZERO_MS, ZERO_MS + 2 * DAY, 3)


def test_a_table_is_in_force_from_the_first_epoch_a_backfill_brings() -> None:
    world = World()
    early = Backfill(
        name="early",
        start="2024-12-30T12:00:00Z",
        end="2024-12-31T00:00:00Z",
        node_count=1,
        nodes_sha256="0" * 64,
        sources=(BackfillSource(name="x", sha256="0" * 64),),
        fund="1",
        pool_per_epoch="1",
    )
    community = msgspec.structs.replace(world.community, backfills=(early,))
    table = Spec(service()).when(AdoptGenesis(community, NOW_MS))[1]
    assert table.effective_ms == ZERO_MS - 2 * DAY
    twice = msgspec.structs.replace(early, name="late", start="2024-12-31T00:00:00Z", end="2024-12-31T01:00:00Z")
    assert len(Spec(service()).when(AdoptGenesis(msgspec.structs.replace(community, backfills=(early, twice)), NOW_MS)))
    shared = msgspec.structs.replace(twice, start="2024-12-30T23:00:00Z")
    with pytest.raises(SpansOverlap):
        Spec(service()).when(AdoptGenesis(msgspec.structs.replace(community, backfills=(early, shared)), NOW_MS))


def test_genesis_is_adopted_once() -> None:
    world = World()
    assert world.spec.when(AdoptGenesis(world.community, NOW_MS)) == []


def test_one_policy_turns_the_registry_s_facts_into_commands() -> None:
    (adopt,) = policies()
    assert (adopt.name, adopt.source) == ("metering.adopt", "registry")
    community = World().community
    assert adopt.react(recorded(CommunityFounded(community, "0" * 64))) == [AdoptGenesis(community, NOW_MS)]
    assert adopt.react(recorded(PerformanceTableAdopted(TABLE, "1" * 64, 5))) == [AdoptTable(TABLE, "1" * 64, 5)]


def test_genesis_own_table_is_not_adopted_twice() -> None:
    with pytest.raises(NotAdopted):
        Spec(service()).when(AdoptTable(TABLE, table_sha256(TABLE), ZERO_MS))
    assert World().spec.when(AdoptTable(TABLE, table_sha256(TABLE), ZERO_MS)) == []


def test_a_later_table_is_in_force_from_now_on_at_the_earliest() -> None:
    world = World()
    second = msgspec.structs.replace(TABLE, version=2)
    (fact,) = world.spec.when(AdoptTable(second, "2" * 64, ZERO_MS))
    assert (fact.table.version, fact.effective_ms) == (2, NOW_MS)
    assert world.spec.when(AdoptTable(second, "2" * 64, ZERO_MS)) == []


def test_a_table_hash_is_the_registry_s() -> None:
    assert table_sha256(TABLE) == registry_table_sha256(TABLE)


def named(*pages: list[str]) -> World:
    world = World(backfill_days=2, backfill_nodes=NAMES)
    for number, page in enumerate(pages):
        world.spec.when(NameBackfillNodes("history", number, tuple(page)))
    return world


def test_with_the_last_page_of_nodes_the_backfill_opens_in_the_same_commit() -> None:
    world = named(SORTED[:2])
    facts = world.spec.when(NameBackfillNodes("history", 1, tuple(SORTED[2:])))
    assert [type(fact) for fact in facts] == [BackfillNodesNamed, BackfillOpened]
    with pytest.raises(BackfillAlreadyOpen):
        world.spec.when(NameBackfillNodes("history", 2, (node("four"),)))


def test_page_0_begins_the_naming_anew() -> None:
    world = named(SORTED[1:2])
    facts = world.spec.when(NameBackfillNodes("history", 0, tuple(SORTED)))
    assert isinstance(facts[-1], BackfillOpened)


def test_other_nodes_than_those_allowed_are_refused() -> None:
    world = named(SORTED[:2])
    for wrong in ((node("four"),), (SORTED[2], node("four"))):
        with pytest.raises((BackfillNodesMismatch, PageOutOfOrder)):
            world.spec.when(NameBackfillNodes("history", 1, tuple(sorted(wrong))))
    too_many = sorted([*SORTED, node("four")])
    with pytest.raises(BackfillNodesMismatch):
        world.spec.when(NameBackfillNodes("history", 0, tuple(too_many)))
    others = sorted([*SORTED[:2], node("four")])
    with pytest.raises(BackfillNodesMismatch):
        world.spec.when(NameBackfillNodes("history", 0, tuple(others)))


def test_pages_come_in_order_and_sorted() -> None:
    world = named(SORTED[:1])
    with pytest.raises(PageOutOfOrder):
        world.spec.when(NameBackfillNodes("history", 2, tuple(SORTED[1:])))
    with pytest.raises(PageOutOfOrder):
        world.spec.when(NameBackfillNodes("history", 1, tuple(reversed(SORTED[1:]))))
    with pytest.raises(PageOutOfOrder):
        world.spec.when(NameBackfillNodes("history", 1, (SORTED[0], *SORTED[1:])))


def test_a_page_of_another_form_is_refused() -> None:
    world = named()
    for nodes in ((), ("node/x",), tuple(sorted(node(str(number)) for number in range(1_001)))):
        with pytest.raises(InvalidField):
            world.spec.when(NameBackfillNodes("history", 0, nodes))


def test_an_unknown_or_unopened_backfill_is_refused() -> None:
    world = named()
    with pytest.raises(UnknownBackfill):
        world.spec.when(NameBackfillNodes("none", 0, tuple(SORTED)))
    with pytest.raises(UnknownBackfill):
        world.spec.when(CloseBackfill("none"))
    with pytest.raises(BackfillNotOpen):
        world.spec.when(CloseBackfill("history"))


def test_the_hash_of_nodes_is_over_sorted_lines() -> None:
    assert nodes_sha256(["b", "a"]) == nodes_sha256(["a", "b"])
    assert nodes_sha256([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
