"""Whatever happens to the registry: nothing is lent twice, no operator is lost, replay equals live."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from events.genesis import Currency, Pool
from events.values import PPM
from services.kernel.errors import CommonsError
from services.kernel.snapshot import freeze, thaw
from services.registry import commands
from services.registry.decide.disputes import SAME_SECOND_MS
from services.registry.genesis import initial_amounts
from services.registry.state import Directory, Node
from services.treasury.shares import largest_remainder
from tests.registry_world import World, community, device, gpu, member, node, registration, with_metering_minimums
from tests.spec import NOW_US

NAMES = ("n0", "n1", "n2", "n3")
GPUS = ("g0", "g1", "g2")
OWNERS = ("aurora", "basalt", "cedar")
CAUSES = ("owner", "steward", "failed-challenges")

names, gpus, owners = st.sampled_from(NAMES), st.sampled_from(GPUS), st.sampled_from(OWNERS)
actors = st.sampled_from((*OWNERS, "steward", "operator"))

registers = st.builds(
    lambda name, claimed: registration(name, [gpu(one) for one in claimed]),
    names,
    st.lists(gpus, min_size=1, max_size=2, unique=True),
)
suspends = st.builds(commands.SuspendNode, names.map(node), st.sampled_from(CAUSES), st.just("jws"))
reinstates = st.builds(commands.ReinstateNode, names.map(node), st.sampled_from(CAUSES), st.just("jws"))
retires = st.builds(commands.RetireNode, names.map(node), st.just("jws"))
notes = st.builds(
    lambda name, one, count: commands.NoteChallenges(node(name), ((device(one), count),), "fact"),
    names,
    gpus,
    st.integers(1, 3),
)
roles = st.builds(
    lambda kind, handle, role: kind(member(handle), role, "jws"),
    st.sampled_from((commands.GrantRole, commands.RevokeRole)),
    st.sampled_from(("operator", "steward", "aurora")),
    st.sampled_from(("operator", "steward", "provider")),
)
lived = st.lists(st.tuples(st.one_of(registers, suspends, reinstates, retires, notes, roles), actors), max_size=40)


def live(world: World, steps: list[tuple[Any, str]]) -> list[Any]:
    """Try every step; return the facts of those that were not refused, as emitted."""
    emits: list[Any] = []
    for command, handle in steps:
        try:
            emits.extend(world.spec.decide(command, member(handle)))
        except CommonsError:
            continue
        settled(world.state)
    return emits


def settled(state: Directory) -> None:
    """What must hold after every command when no dispute was ever settled by answers."""
    for one, other in combinations([found for found in state.nodes.values() if found.status == "active"], 2):
        assert not claimed(one) & claimed(other), (one.node, other.node)
    assert any("operator" in found.roles for found in state.members.values())
    for found in state.nodes.values():
        expected = "suspended" if found.suspensions else found.standing
        assert found.status == expected, found
    for key in state.keys.values():
        assert key.kid not in state.dead_keys


def claimed(found: Node) -> set[str]:
    return {one.device for one in found.fact.devices}


@settings(max_examples=150, deadline=None)
@given(lived, st.sampled_from((True, False)))
def test_no_two_active_nodes_ever_lend_one_device(steps: list[tuple[Any, str]], first: Any) -> None:
    live(World(with_metering_minimums(challenge_first=first)), steps)


@settings(max_examples=50, deadline=None)
@given(lived)
def test_replay_and_restart_equal_live(steps: list[tuple[Any, str]]) -> None:
    world = World(community())
    emits = live(world, steps)
    again = World(community())
    half = len(emits) // 2
    again.spec.given(*emits[:half])
    again.spec.state = thaw(freeze(again.state), Directory)
    again.spec.given(*emits[half:])
    assert again.state == world.state


@settings(max_examples=100, deadline=None)
@given(st.integers(0, SAME_SECOND_MS * 2))
def test_answers_settle_a_dispute_exactly_when_they_are_less_than_a_second_apart(apart_ms: int) -> None:
    world = World()
    world.joins("n0", (gpu("g0"),))
    world.joins("n1", (gpu("g0"),), owner="basalt")
    now_ms = NOW_US // 1_000
    answers = tuple(
        commands.Answer(node(name), device("g0"), "c", at_ms, "d", name)
        for name, at_ms in (("n0", now_ms - apart_ms), ("n1", now_ms))
    )
    try:
        world.when(commands.ReinstateNodes(device("g0"), answers, "jws"), "steward")
    except CommonsError:
        assert apart_ms >= SAME_SECOND_MS
        assert world.status("n0") == "suspended"
    else:
        assert apart_ms < SAME_SECOND_MS
        assert world.status("n0") == world.status("n1") == "active"


@st.composite
def currencies(draw: st.DrawFn) -> Currency:
    cuts = sorted(draw(st.sets(st.integers(1, PPM - 1), max_size=12)))
    shares = [after - before for before, after in zip([0, *cuts], [*cuts, PPM], strict=True)]
    pools = tuple(Pool(name=f"pool-{index}", share_ppm=share) for index, share in enumerate(shares))
    supply = str(draw(st.integers(0, 2**63 - 1)))
    return Currency(cap=supply, initial_supply=supply, emission_per_epoch="0", distribution=pools)


@given(currencies(), st.randoms())
def test_the_distribution_is_the_initial_supply_exactly_whatever_its_order(currency: Currency, random: Any) -> None:
    amounts = initial_amounts(currency)
    assert sum(amounts.values()) == int(currency.initial_supply)
    for pool in currency.distribution:
        exact, share = int(currency.initial_supply) * pool.share_ppm, amounts[pool.name]
        assert exact // PPM <= share <= -(-exact // PPM)
    pools = list(currency.distribution)
    random.shuffle(pools)
    assert (
        initial_amounts(
            Currency(cap="0", initial_supply=currency.initial_supply, emission_per_epoch="0", distribution=tuple(pools))
        )
        == amounts
    )


@given(currencies())
def test_the_treasury_pays_out_what_the_summary_showed(currency: Currency) -> None:
    weights = [(pool.name, pool.share_ppm) for pool in currency.distribution]
    paid = largest_remainder(int(currency.initial_supply), weights)
    assert dict(zip((name for name, _ in weights), paid, strict=True)) == initial_amounts(currency)
