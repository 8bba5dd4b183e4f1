"""Performance tables are versioned documents: the next version, from now or later, never before its predecessor."""

from __future__ import annotations

import msgspec
import pytest

from events.genesis import PerformanceTable
from events.registry import PerformanceTableAdopted
from infra.genesis_file import shipped_table
from services.kernel.errors import InvalidField, PermissionDenied
from services.registry import commands, errors
from services.registry.genesis import table_sha256
from tests.registry_world import World
from tests.spec import NOW_US

NOW_MS = NOW_US // 1_000


def version(number: int, **changes: object) -> PerformanceTable:
    return msgspec.structs.replace(shipped_table(), version=number, **changes)


def adopt(table: PerformanceTable, effective_ms: int | None = None) -> commands.AdoptPerformanceTable:
    return commands.AdoptPerformanceTable(table, effective_ms, "jws")


def test_the_next_version_is_in_force_from_now_on_unless_it_says_later() -> None:
    world = World()
    (fact,) = world.when(adopt(version(2)), "steward")
    assert fact == PerformanceTableAdopted(version(2), table_sha256(version(2)), NOW_MS, "jws")
    (later,) = world.when(adopt(version(3), NOW_MS + 1), "operator")
    assert later.effective_ms == NOW_MS + 1


@pytest.mark.parametrize("number", [1, 3])
def test_a_version_that_is_not_the_next_is_refused(number: int) -> None:
    with pytest.raises(errors.VersionNotNext) as caught:
        World().when(adopt(version(number)), "steward")
    assert caught.value.fields["expected"] == 2


def test_a_class_without_a_table_starts_at_version_one() -> None:
    world = World()
    world.when(adopt(version(1, work_class="train")), "steward")
    with pytest.raises(errors.VersionNotNext):
        world.when(adopt(version(1, work_class="train")), "steward")


def test_a_table_is_never_in_force_in_the_past() -> None:
    with pytest.raises(errors.EffectiveTooEarly):
        World().when(adopt(version(2), NOW_MS - 1), "steward")


def test_a_table_is_never_in_force_before_the_one_it_replaces() -> None:
    world = World()
    world.when(adopt(version(2), NOW_MS + 1_000), "steward")
    with pytest.raises(errors.EffectiveTooEarly):
        world.when(adopt(version(3), NOW_MS + 999), "steward")
    (fact,) = world.when(adopt(version(3)), "steward")
    assert fact.effective_ms == NOW_MS + 1_000


def test_an_unsound_table_is_refused_with_every_problem() -> None:
    broken = version(2, reference=(), reference_model="H100")
    with pytest.raises(InvalidField) as caught:
        World().when(adopt(broken), "steward")
    assert len(caught.value.fields["problems"]) == 2


def test_a_provider_adopts_no_table() -> None:
    with pytest.raises(PermissionDenied):
        World().when(adopt(version(2)), "aurora")
