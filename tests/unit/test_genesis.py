"""The genesis document: its rules, its hash, what it will do."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from events.genesis import Backfill, BackfillSource, Community, Currency, Pool
from events.values import PPM
from infra.genesis_file import demo_yaml, read_community, shipped_table
from services.registry.genesis import canonical, check, initial_amounts, instant_ms, sha256, summary
from tests.registry_world import community, key


def edited(old: str, new: str) -> bytes:
    text = demo_yaml().decode()
    assert text.count(old) >= 1, old
    return text.replace(old, new, 1).encode()


def problems_of(**changes: Any) -> str:
    return "\n".join(check(community(**changes)))


def backfilled(**changes: Any) -> Community:
    """A sound document with a backfill whose fund is one percent of the supply."""
    document = community()
    currency = msgspec.structs.replace(
        document.currency,
        distribution=(Pool(name="treasury", share_ppm=990_000), Pool(name="backfill-old", share_ppm=10_000)),
    )
    fields: dict[str, Any] = {
        "name": "old",
        "start": "2025-01-01T00:00:00Z",
        "end": "2025-01-02T12:00:00Z",
        "node_count": 2,
        "nodes_sha256": "a" * 64,
        "sources": (BackfillSource(name="pods.csv", sha256="b" * 64),),
        "fund": "1000000000000",
        "pool_per_epoch": "1000000",
    }
    return msgspec.structs.replace(document, currency=currency, backfills=(Backfill(**{**fields, **changes}),))


def test_the_shipped_example_is_sound() -> None:
    document = read_community(demo_yaml(), key)
    assert check(document) == []
    assert document.origin == "demo.commons.example"
    assert not document.metering.challenge_first
    assert document.backfills == ()


def test_the_shares_of_the_shipped_example_sum_to_exactly_one_hundred_percent() -> None:
    document = community()
    assert sum(pool.share_ppm for pool in document.currency.distribution) == PPM
    assert sum(initial_amounts(document.currency).values()) == int(document.currency.initial_supply)
    totals = [row.value for row in summary(document) if row.item == "sum of all pools"]
    assert totals == ["100000000.000000 COMPUTE (100.0000 %)"]


def test_shares_of_99_99_percent_are_refused_and_the_sum_is_shown() -> None:
    document = read_community(edited("share_ppm: 400000", "share_ppm: 399900"), key)
    assert check(document) == [
        "currency.distribution: shares sum to 999900 ppm (99.9900 %), not 1000000 ppm (100 %)",
    ]


def test_shares_above_one_hundred_percent_are_refused() -> None:
    document = read_community(edited("share_ppm: 400000", "share_ppm: 400001"), key)
    assert "1000001 ppm (100.0001 %)" in check(document)[0]


@pytest.mark.parametrize("amount", ["-1", "01", "1e6", "1.0", "9223372036854775808", "", "+1"])
def test_an_amount_that_is_negative_overflowing_or_not_canonical_is_refused(amount: str) -> None:
    document = read_community(edited('emission_per_epoch: "1000000000"', f'emission_per_epoch: "{amount}"'), key)
    assert any(problem.startswith("currency.emission_per_epoch") for problem in check(document))


def test_the_shipped_table_is_the_first_infer_table_of_the_rules() -> None:
    factors = {entry.model: entry.performance_factor for entry in shipped_table().entries}
    assert factors == {
        "T4": "1.0000",
        "A10": "2.3470",
        "A30": "3.0790",
        "A40": "3.3490",
        "A100-PCIe-40": "5.4370",
        "A100-SXM-80": "6.6620",
    }
    shipped = tuple(map(shipped_table, ("infer-1", "cpu-1", "storage-1", "bandwidth-1")))
    assert community().performance_tables == shipped


def test_handles_keys_and_slugs_are_nobodys_twice() -> None:
    first, *others = community().members
    found = problems_of(members=(first, first, *others))
    assert "members: the handle operator stands twice" in found
    assert "members[1].key: the same key stands at members[0].key" in found
    project = community().projects[0]
    assert "projects: the slug protein-folding stands twice" in problems_of(projects=(project, project))


def test_a_community_starts_with_an_operator_and_a_steward() -> None:
    members = tuple(msgspec.structs.replace(founder, roles=()) for founder in community().members)
    found = problems_of(members=members, board=msgspec.structs.replace(community().board, seats=(), non_technical=()))
    assert "nobody is operator" in found
    assert "nobody is steward" in found


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("seats: [maple", "seats: [nobody", "board.seats: 'nobody'"),
        ("seats: [maple", "seats: [lab", "board.seats: lab sits on the board without the role"),
        ("non_technical: [maple", "non_technical: [lab", "board.non_technical: 'lab'"),
        ("owner: lab", "owner: nobody", "projects[0].owner"),
        ("member: operator", "member: nobody", "currency.distribution[4].member"),
        ("cliff_seconds: 31536000", "cliff_seconds: 131536000", "currency.distribution[4].vesting"),
        ("name: treasury", "name: Treasury", "currency.distribution[0].name"),
        ("name: grants", "name: backfill-x", "currency.distribution[1].name: backfill-x names no backfill"),
        ('initial_supply: "100000000000000"', 'initial_supply: "1000000000000001"', "currency.initial_supply"),
        ("seconds: 3600", "seconds: 0", "epochs.seconds"),
        ("2025-01-01T00:00:00Z", "2025-01-01T00:00:00+01:00", "epochs.zero"),
        ("2025-01-01T00:00:00Z", "2025-02-30T00:00:00Z", "epochs.zero"),
        ("late_reserve_ppm: 20000", "late_reserve_ppm: 1000001", "metering.late_reserve_ppm"),
        ("gpu_hours_per_day: 1", "gpu_hours_per_day: 25", "resources.minimums.gpu_hours_per_day"),
        ("offered: [gpu, cpu, storage, bandwidth]", "offered: []", "resources.offered"),
        ("kind: gpu, share_ppm: 700000", "kind: gpu, share_ppm: 700001", "metering.sub_pools"),
        ("kind: gpu, share_ppm", "kind: cpu, share_ppm", "metering.sub_pools"),
        ("offered: [gpu, cpu, storage, bandwidth]", "offered: [gpu, cpu, storage]", "metering.sub_pools[3].kind"),
        ('rate_cap: "50000"', 'rate_cap: "0"', "metering.sub_pools[2].rate_cap"),
        ("holdback_ppm: 100000", "holdback_ppm: 1000001", "metering.holdback_ppm"),
        ('storage_mb_hours: "1000000000"', 'storage_mb_hours: "1e9"', "projects[0].storage_mb_hours"),
        ('bandwidth_mb: "100000000"', 'bandwidth_mb: "-1"', "projects[0].bandwidth_mb"),
        ("origin: demo.commons.example", "origin: Demo", "origin"),
    ],
)
def test_a_broken_rule_is_named_with_its_path(old: str, new: str, path: str) -> None:
    problems = check(read_community(edited(old, new), key))
    assert any(problem.startswith(path) for problem in problems), problems


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"reference_model": "A10"}, "no entry of 1.0000"),
        ({"reference_model": "H100"}, "no entry of 1.0000"),
        ({"reference": ()}, "no benchmark"),
        ({"version": 0}, "version"),
    ],
)
def test_a_table_needs_its_reference(change: dict[str, Any], says: str) -> None:
    table = msgspec.structs.replace(shipped_table(), **change)
    assert says in problems_of(performance_tables=(table,))


@pytest.mark.parametrize("factor", ["0.0000", "1.00000", "-1.0", "1,5", "0", "", "01.0", "1."])
def test_a_factor_that_is_not_four_decimals_above_zero_is_refused(factor: str) -> None:
    table = shipped_table()
    entry = msgspec.structs.replace(table.entries[1], performance_factor=factor)
    broken = msgspec.structs.replace(table, entries=(table.entries[0], entry))
    assert "performance_factor" in problems_of(performance_tables=(broken,))


def test_one_class_starts_with_one_table() -> None:
    second = msgspec.structs.replace(shipped_table(), version=2)
    assert "two tables" in problems_of(performance_tables=(shipped_table(), second))


def test_a_backfill_with_its_own_fund_is_sound() -> None:
    assert check(backfilled()) == []
    assert any("to fund/old" in row.value for row in summary(backfilled()))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"fund": "1000000000001"}, "differs from the 1000000000000 of the pool backfill-old"),
        ({"name": "other"}, "no pool backfill-other"),
        ({"start": "2025-01-03T00:00:00Z"}, "is empty"),
        ({"start": "2024-12-31T23:59:59Z"}, "before epoch zero"),
        ({"nodes_sha256": "A" * 64}, "nodes_sha256"),
        ({"sources": ()}, "no source"),
        ({"node_count": 0}, "node_count"),
        ({"pool_per_epoch": "1000000000001"}, "above the fund"),
        ({"fund": "0"}, "below 1"),
    ],
)
def test_a_backfill_that_breaks_a_rule_is_refused(change: dict[str, Any], says: str) -> None:
    assert says in "\n".join(check(backfilled(**change)))


def test_two_backfills_never_share_an_epoch() -> None:
    document = backfilled()
    (first,) = document.backfills
    second = msgspec.structs.replace(first, name="new", start=first.end, end="2025-01-03T00:00:00Z")
    distribution = (
        Pool(name="treasury", share_ppm=980_000),
        Pool(name="backfill-old", share_ppm=10_000),
        Pool(name="backfill-new", share_ppm=10_000),
    )
    currency = msgspec.structs.replace(document.currency, distribution=distribution)
    both = msgspec.structs.replace(document, currency=currency, backfills=(second, first))
    assert check(both) == []
    daily = msgspec.structs.replace(both, epochs=msgspec.structs.replace(both.epochs, seconds=86_400))
    assert check(daily) == ["backfills: old and new touch the same epoch, which only one fund can pay"]


@pytest.mark.parametrize("x", ["", "A" * 43, "AQ" + "A" * 41, "not base64!", "é", key("x").x + "="])
def test_a_key_nobody_or_everybody_can_sign_with_is_refused(x: str) -> None:
    first, *others = community().members
    broken = msgspec.structs.replace(first, key=msgspec.structs.replace(first.key, x=x))
    assert "members[0].key" in problems_of(members=(broken, *others))


def test_a_document_that_does_not_fit_in_the_first_fact_is_refused() -> None:
    project = community().projects[0]
    many = tuple(msgspec.structs.replace(project, slug=f"project-{number}") for number in range(500))
    assert "at most 60000 fit in the first fact" in problems_of(projects=many)


def test_the_canonical_form_is_sorted_json_with_every_default_written_out() -> None:
    document = community()
    plain = json.dumps(msgspec.to_builtins(document), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert canonical(document) == plain.encode()
    assert b'"public_views":true' in canonical(document)


def test_the_hash_follows_the_content_and_not_the_spelling() -> None:
    shuffled = b"public_views: true\n" + demo_yaml().replace(b"kind: human", b'kind: "human"')
    assert sha256(read_community(shuffled, key)) == sha256(community())
    assert sha256(community(name="Another")) != sha256(community())


def test_amounts_are_divided_by_largest_remainder_whatever_the_order() -> None:
    pools = (Pool(name="a", share_ppm=333_333), Pool(name="b", share_ppm=333_333), Pool(name="c", share_ppm=333_334))
    one = Currency(cap="100", initial_supply="100", emission_per_epoch="0", distribution=pools)
    other = msgspec.structs.replace(one, distribution=pools[::-1])
    assert initial_amounts(one) == initial_amounts(other) == {"a": 33, "b": 33, "c": 34}


def test_a_time_has_one_reading() -> None:
    assert instant_ms("2026-01-01T00:00:00Z") == instant_ms("2026-01-01T00:00:00.000000Z") == 1_767_225_600_000
