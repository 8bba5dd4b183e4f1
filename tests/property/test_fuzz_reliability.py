"""After any history reliability heals by no silence and by no new name: of a node, of an owner, of a second node.

The bound in question is that of a device in its owner's hands, as an epoch would use it (`scoring.judge`).
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from events import registry
from services.kernel.decider import Emit
from services.metering.reliability import EMPTY
from services.metering.scoring import judge
from tests.fuzz_stories import Story
from tests.fuzz_world import KIND_OF, OWNERS, Instance, Terms, numbers_of
from tests.heartbeat_world import adopt
from tests.kinds_world import CAPACITY, MODELS, WHOLE
from tests.metering_world import DAY, device, key_of, member, node

seeds = st.randoms(use_true_random=True)
quick = settings(max_examples=8, deadline=None)
OTHER = {"provider": "other-provider", "other-provider": "provider", "kin": "provider"}


def lived(random: Random) -> Instance:
    """A community after a story, some time later, so that what is in time of it has been judged."""
    terms = Terms(epoch_hours=random.choice((1, 24)), close_after_hours=2, availability=random.randrange(2) == 0)
    found = Instance(terms).happen(Story(random, terms).happenings)
    wait(found, 2)
    return found


def wait(found: Instance, days: int) -> None:
    """Let days pass in which nobody says anything."""
    found.until(found.spec.now_us // 1_000 + days * DAY)


def bound(found: Instance, name: str, owner: str) -> int:
    """The reliability (ppm) of a device in an owner's hands in the epoch that closes next."""
    state = found.spec.state
    return judge(state, state.next_live, [(name, member(owner))]).of(name, member(owner))


def bounds(found: Instance, owners: dict[str, str] | None = None) -> dict[str, int]:
    """The reliability of every device, by default in the hands of its own owner."""
    return {
        device(name, number): bound(found, device(name, number), (owners or OWNERS)[name])
        for name in OWNERS
        for number in numbers_of(name)
    }


def register(found: Instance, name: str, owner: str, devices: Iterable[tuple[str, int]]) -> None:
    """Register a node with devices `(id, number that tells the kind)`, and activate it."""
    stated = tuple(
        registry.Device(one, KIND_OF[number], MODELS[KIND_OF[number]], CAPACITY[KIND_OF[number]], 16_384)
        for one, number in devices
    )
    fact = registry.NodeRegistered(
        node(name),
        member(owner),
        key_of(name),
        "DE",
        stated,
        WHOLE["cpu"],
        65_536,
        registry.Window(),
        1,
        True,  # noqa: FBT003 - the only value there is
        "jws",
        CAPACITY["storage"],
        CAPACITY["bandwidth"],
    )
    found.spec.knowing(Emit(node(name), fact), Emit(node(name), registry.NodeActivated(node(name))))
    adopt(found.world, name, found.spec.now_us // 1_000)


def retire(found: Instance, name: str) -> None:
    found.spec.knowing(Emit(node(name), registry.NodeRetired(node(name), "jws")))
    adopt(found.world, name, found.spec.now_us // 1_000)


@quick
@given(seeds, st.integers(1, 30))
def test_no_silence_heals(random: Random, days: int) -> None:
    found = lived(random)
    before = bounds(found)
    wait(found, days)
    after = bounds(found)
    assert all(after[name] <= before[name] for name in before)


@quick
@given(seeds, st.sampled_from(sorted(OWNERS)), st.integers(0, 20))
def test_a_node_that_retires_and_registers_anew_takes_its_record_along(random: Random, name: str, days: int) -> None:
    found = lived(random)
    before = bounds(found)
    retire(found, name)
    wait(found, days)
    mine = [(device(name, number), number) for number in numbers_of(name)]
    register(found, "again", OWNERS[name], mine)
    wait(found, 1)
    for one, _ in mine:
        assert bound(found, one, OWNERS[name]) <= before[one]


@quick
@given(seeds, st.sampled_from(sorted(OWNERS)), st.integers(0, 20))
def test_a_device_under_another_owner_is_no_better_than_it_was(random: Random, name: str, days: int) -> None:
    found = lived(random)
    state = found.spec.state
    mine = [(device(name, number), number) for number in numbers_of(name)]
    own = {
        one: judge(state, state.next_live, [(one, member(OWNERS[name]))]).devices[one][0]
        for one, _ in mine
        if state.records.get(one) is not None and state.records[one].challenges
    }
    retire(found, name)
    wait(found, days)
    buyer = OTHER[OWNERS[name]]
    register(found, "again", buyer, mine)
    wait(found, 1)
    for one, known in own.items():
        assert bound(found, one, buyer) <= known, "the device's own record follows it"


@quick
@given(seeds, st.sampled_from(sorted(OWNERS)))
def test_an_owner_s_second_node_starts_no_better_than_the_owner_s_worst(random: Random, name: str) -> None:
    found = lived(random)
    owner = OWNERS[name]
    mine = [device(one, number) for one in OWNERS if OWNERS[one] == owner for number in numbers_of(one)]
    failed = [
        one
        for one in mine
        if (record := found.spec.state.records.get(one)) and any(lost for _, _, lost, _ in record.challenges)
    ]
    worst = min((bound(found, one, owner) for one in failed), default=EMPTY)
    register(found, "second", owner, [(device("second", number), number) for number in (0, 2, 3, 4)])
    for number in (0, 2, 3, 4):
        assert bound(found, device("second", number), owner) <= min(EMPTY, worst)
