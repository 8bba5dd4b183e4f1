"""The book under any history: conserved after every fact, equal to a naive model, rebuilt from its facts bit by bit."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from events.catalog import Recorded
from events.envelope import encode_data
from events.facts import catalog
from events.genesis import Pool, Vesting
from events.treasury import AccountOpened, AssetDefined, FundOpened, RewardsPaid, ScoredNode, SupplyMinted
from events.values import DAY_MS, INT64_MAX
from services.kernel.errors import Refusal
from services.kernel.snapshot import freeze, thaw
from services.registry.genesis_summary import initial_amounts
from services.treasury.commands import (
    AdoptGenesis,
    BurnSupply,
    NoteEpochScores,
    OpenAccount,
    ReleaseLateReserve,
    SettleEpoch,
)
from services.treasury.evolve import evolve
from services.treasury.invariants import check_book
from services.treasury.service import due
from services.treasury.shares import largest_remainder, late_pay, split_pool
from services.treasury.state import Book
from tests.model import BookModel, BookRefused, book_shares
from tests.spec import Spec
from tests.treasury_given import (
    backfill,
    community,
    emits,
    founded,
    late_pages,
    node,
    only,
    scored,
    settle,
    sound_service,
    transfer,
)

MEMBERS = [f"member/{number:032x}" for number in range(5)]
"""The last one has no account until a reward opens it."""

amounts = st.one_of(st.integers(1, 60), st.integers(1, 3_000))
weights = st.lists(st.integers(0, 10**12), min_size=1, max_size=40).filter(any)
wholes = st.integers(0, INT64_MAX)
scores = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(MEMBERS), st.integers(0, 50)), max_size=12).map(
    lambda rows: list({number: (number, owner, micro) for number, owner, micro in rows}.values())
)


def named(parts: list[int]) -> list[tuple[str, int]]:
    return [(f"node/{index:04d}", part) for index, part in enumerate(parts)]


@given(wholes, weights)
def test_largest_remainder_is_exact_and_agrees_with_the_naive_model(whole: int, parts: list[int]) -> None:
    rows = named(parts)
    shares = largest_remainder(whole, rows)
    assert sum(shares) == whole
    assert dict(zip(dict(rows), shares, strict=True)) == book_shares(whole, dict(rows))


@given(wholes, weights, st.randoms(use_true_random=False))
def test_largest_remainder_does_not_depend_on_the_order(whole: int, parts: list[int], random: object) -> None:
    rows = named(parts)
    mixed = list(rows)
    random.shuffle(mixed)  # type: ignore[attr-defined]
    one = dict(zip((name for name, _ in rows), largest_remainder(whole, rows), strict=True))
    two = dict(zip((name for name, _ in mixed), largest_remainder(whole, mixed), strict=True))
    assert one == two


@given(wholes, weights)
def test_equal_usage_is_paid_equally_up_to_one_unit_and_more_usage_never_less(whole: int, parts: list[int]) -> None:
    paid = sorted(zip(parts, largest_remainder(whole, named(parts)), strict=True))
    for (less, smaller), (more, larger) in itertools.pairwise(paid):
        assert smaller <= larger + (less == more)
    for _, equals in itertools.groupby(paid, key=lambda row: row[0]):
        earned = [amount for _, amount in equals]
        assert max(earned) - min(earned) <= 1


@given(st.integers(1, 10**15), weights, st.integers(0, 39), st.integers(1, 10**12))
def test_a_higher_score_never_lowers_ones_own_pay(whole: int, parts: list[int], index: int, more: int) -> None:
    index %= len(parts)
    before = largest_remainder(whole, named(parts))[index]
    raised = [part + more if place == index else part for place, part in enumerate(parts)]
    assert largest_remainder(whole, named(raised))[index] >= before


@given(
    st.integers(0, 10**18),
    st.dictionaries(st.text("abc", min_size=1, max_size=4), st.integers(1, 100_000), min_size=1, max_size=9),
)
def test_genesis_shows_the_distribution_that_is_minted(supply: int, shares: dict[str, int]) -> None:
    rest = 1_000_000 - sum(shares.values())
    pools = [Pool(name=name, share_ppm=share) for name, share in (*shares.items(), ("rest", rest))]
    document = community(*pools, supply=supply, cap=10**18)
    spec = Spec(sound_service())
    spec.when(AdoptGenesis(document, 0))
    for name, amount in initial_amounts(document.currency).items():
        assert spec.state.balances[f"pool/{name}"] == amount


@given(wholes, st.integers(0, 10**15), st.integers(0, 1_000_000), st.integers(0, 10**15))
def test_a_pool_is_split_exactly_under_the_rate_cap(pool: int, score: int, ppm: int, rate_cap: int) -> None:
    split = split_pool(pool, score, ppm, rate_cap)
    assert split.payable + split.late_reserve + split.kept == pool
    assert min(split.payable, split.late_reserve, split.kept) >= 0
    assert split.payable * 1_000_000 <= rate_cap * score
    assert split.late_reserve * 1_000_000 <= pool * ppm


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 10**12)), max_size=20),
    st.integers(0, 10**9),
    st.integers(1, 10**9),
    st.fixed_dictionaries({owner: wholes | st.integers(0, 10**12) for owner in "abc"}),
    wholes,
)
def test_late_pay_never_passes_the_reserve_the_rate_or_an_owner_s_room(
    late: list[tuple[str, int]], numerator: int, denominator: int, rooms: dict[str, int], reserve: int
) -> None:
    paid = late_pay(late, (numerator, denominator), rooms, reserve)
    assert sum(paid) <= reserve
    assert all(part * denominator <= score * numerator for part, (_, score) in zip(paid, late, strict=True))
    for owner, room in rooms.items():
        assert sum(part for part, (of, _) in zip(paid, late, strict=True) if of == owner) <= room


usage = st.lists(
    st.tuples(
        st.integers(0, 7),
        st.sampled_from((0, 1, 3)),
        st.integers(0, 60) | st.integers(0, 10**6),
    ),
    max_size=14,
)
"""(node, when it comes: in time or with a later close, micro-rGPUh). A node's owner follows from its number."""


class DelayedEpoch:
    """One epoch, settled with what comes in time; the rest is paid late."""

    def __init__(self, emission: int, rate_cap: int, late_ppm: int) -> None:
        self.terms = {"emission": emission, "rate_cap": rate_cap, "late_ppm": late_ppm}

    @staticmethod
    def owner(number: int) -> str:
        return MEMBERS[number % 3]

    def scores(self, rows: Sequence[tuple[int, int, int]]) -> tuple[ScoredNode, ...]:
        sums = Counter({number: 0 for number, _, _ in rows})
        for number, _, micro in rows:
            sums[number] += micro
        return scored(*((number, self.owner(number), micro) for number, micro in sorted(sums.items())))

    def settle(self, rows: Sequence[tuple[int, int, int]]) -> Spec:
        spec = founded(**self.terms)
        settle(spec, 0, self.scores(rows))
        return spec

    def in_time(self, rows: Sequence[tuple[int, int, int]], owner: str) -> int:
        return self.settle(rows).state.balances.get(owner, 0)


epochs = st.builds(
    DelayedEpoch,
    st.integers(0, 3_000) | st.integers(0, 10**12),
    st.integers(0, 40_000_000) | st.just(10**15),
    st.sampled_from((20_000, 300_000, 600_000)),
)


@given(epochs, usage, st.integers(1, 3))
@settings(max_examples=300, deadline=None)
def test_being_late_never_pays(epoch: DelayedEpoch, rows: list[tuple[int, int, int]], page: int) -> None:
    """Whatever part of an owner's usage comes late, its whole pay is at most what it would have been in time."""
    spec = epoch.settle([row for row in rows if row[1] == 0])
    for close in (1, 3):
        before = dict(spec.state.balances)
        for command in late_pages(0, close, epoch.scores([row for row in rows if row[1] == close]), page):
            spec.when(command)
        so_far = [row for row in rows if row[1] <= close]
        for owner in {epoch.owner(number) for number, _, _ in rows}:
            # In time, while the others' late usage stays late; and with everyone in time.
            own = [row for row in so_far if row[1] == 0 or epoch.owner(row[0]) == owner]
            alone, together = epoch.in_time(own, owner), epoch.in_time(so_far, owner)
            total = spec.state.balances.get(owner, 0)
            if total > before.get(owner, 0):
                assert total <= min(alone, together)
            # What the close itself paid may differ by less than two units per node: largest remainders are not
            # monotone in a sum of scores (they cannot be), and a closed epoch is never edited.
            nodes = {number for number, _, micro in own if micro and epoch.owner(number) == owner}
            assert total <= alone + max(0, 2 * len(nodes) - 1)


@given(epochs, st.integers(0, 10**6), st.integers(0, 10**6))
@settings(deadline=None)
def test_a_sole_provider_on_one_node_never_gains_by_a_delay(epoch: DelayedEpoch, soon: int, late: int) -> None:
    spec = epoch.settle([(0, 0, soon)])
    for command in late_pages(0, 1, epoch.scores([(0, 1, late)])):
        spec.when(command)
    assert spec.state.balances.get(MEMBERS[0], 0) <= epoch.in_time([(0, 0, soon + late)], MEMBERS[0])


@given(scores, st.integers(0, 10_000), st.integers(0, 10**9))
@settings(deadline=None)
def test_no_pay_is_above_the_rate_cap_and_none_without_score(
    rows: list[tuple[int, str, int]], emission: int, rate_cap: int
) -> None:
    facts = settle(founded(emission=emission, rate_cap=rate_cap), 0, scored(*rows))
    earned = {
        name: int(posting.amount)
        for page in only(facts, RewardsPaid)
        for name, posting in zip(page.nodes, page.postings, strict=True)
    }
    points = {node(number): micro for number, _, micro in rows}
    assert sum(earned.values()) * 1_000_000 <= rate_cap * sum(points.values())
    assert all(points[name] > 0 and amount > 0 for name, amount in earned.items())


class BookHistory(RuleBasedStateMachine):
    """Random histories, decided by the service and by the naive model; `sound_service` checks the book each fact."""

    def __init__(self) -> None:
        super().__init__()
        self.recorded: list[Recorded] = []
        service = sound_service()

        def watched(state: Book, recorded: Recorded) -> Book:
            after = service.evolve(state, recorded)
            self.recorded.append(recorded)
            return after

        self.spec = Spec(replace(service, evolve=watched))
        self.model = BookModel(cap=40_000, emission=1_001, late_ppm=20_000, rate_cap=30_000_000)
        self._found()
        self.epoch = self.closes = 0
        self.settled_us: dict[int, int] = {}

    def _found(self) -> None:
        model, spec = self.model, self.spec
        spec.given(*emits(AssetDefined("COMPUTE", 6, "40000", "1001", 20_000, 35, "30000000")))
        spec.given(*emits(AccountOpened("pool/emission-reserve", "community", "pool")))
        for member in MEMBERS[:-1]:
            model.open(member, member)
            model.mint(member, 1_000)
            spec.given(*emits(AccountOpened(member, member, "member"), SupplyMinted(member, "1000", "genesis")))
        model.open("fund/old", "community")
        model.mint("fund/old", 2_500)
        model.funds["old"] = 777
        fund = AccountOpened("fund/old", "community", "pool"), SupplyMinted("fund/old", "2500", "genesis")
        spec.given(*emits(*fund, FundOpened("old", "fund/old", "777")))

    def _same(self, command: object, actor: str, expected: object) -> list[object] | None:
        """Decide with both; both refuse or neither does, and a refusal leaves the state as it was."""
        before, raw = self.spec.state, freeze(self.spec.state)
        try:
            expected()  # type: ignore[operator]
        except BookRefused:
            refused = True
        else:
            refused = False
        try:
            facts = list(self.spec.when(command, actor))  # type: ignore[arg-type]
        except Refusal:
            assert refused, command
            assert self.spec.state is before
            assert freeze(before) == raw
            return None
        assert not refused, command
        assert freeze(before) == raw
        return facts

    @rule(data=st.data(), actor=st.sampled_from(MEMBERS), count=st.integers(1, 4))
    def post(self, data: st.DataObject, actor: str, count: int) -> None:
        """Mostly the actor's own accounts, mostly amounts around what the account holds."""
        debits = st.sampled_from([actor, actor, actor, f"{actor}/x", f"{actor}/x", "fund/old", *MEMBERS])
        payees = st.sampled_from([*MEMBERS, f"{actor}/x", "pool/emission-reserve", "fund/old", "late-reserve/0"])
        postings = []
        for _ in range(count):
            debit = data.draw(debits)
            held = self.model.balances.get(debit, 0)
            amount = data.draw(amounts | st.sampled_from([max(1, held - 1), max(1, held), held + 1]))
            postings.append((debit, data.draw(payees), amount))
        self._same(transfer(*postings), actor, lambda: self.model.post(actor, postings))

    @rule(member=st.sampled_from(MEMBERS[:2]))
    def open(self, member: str) -> None:
        self._same(OpenAccount("x"), member, lambda: self.model.open(f"{member}/x", member))

    @rule(actor=st.sampled_from(MEMBERS[:2]), account=st.sampled_from(MEMBERS[:2]), amount=st.integers(900, 1_100))
    def burn(self, actor: str, account: str, amount: int) -> None:
        command = BurnSupply(account, str(amount), "a.b.c")
        self._same(command, actor, lambda: self.model.burn(actor, account, amount))

    @rule(rows=scores, backfill=st.sampled_from([None, None, "old"]), page=st.integers(1, 5))
    def settle(self, rows: list[tuple[int, str, int]], backfill: str | None, page: int) -> None:
        pay = self.model.settle(self.epoch, [(node(number), *rest) for number, *rest in rows], backfill)
        for owner in {owner for number, owner, _ in rows if pay[node(number)]}:
            self.model.owners.setdefault(owner, owner)
        facts = settle(self.spec, self.epoch, scored(*rows), backfill, page)
        earned = {
            name: int(posting.amount)
            for fact in only(facts, RewardsPaid)
            for name, posting in zip(fact.nodes, fact.postings, strict=True)
        }
        assert earned == {name: amount for name, amount in pay.items() if amount}
        self.settled_us[self.epoch] = self.spec.now_us
        self.epoch += 1

    @precondition(lambda self: self.epoch)
    @rule(data=st.data())
    def settle_again(self, data: st.DataObject) -> None:
        epoch = data.draw(st.integers(0, self.epoch - 1))
        command = SettleEpoch(epoch, 0, "0", None, "again", "ungated")
        self._same(command, "policy/treasury.settle-epochs", lambda: self.model.settle(epoch, [], None))

    @rule(epoch=st.integers(0, 6), rows=scores, page=st.integers(1, 12))
    def late(self, epoch: int, rows: list[tuple[int, str, int]], page: int) -> None:
        def expected() -> None:
            pay = self.model.late(epoch, [(node(number), *rest) for number, *rest in rows])
            for number, owner, _ in rows:
                if pay[node(number)]:
                    self.model.owners.setdefault(owner, owner)

        self.closes += 1
        *earlier, last = late_pages(epoch, self.closes, scored(*rows), page)
        if epoch in self.model.rates:
            for command in earlier:
                self.spec.when(command, "policy/treasury.settle-epochs")
        self._same(last, "policy/treasury.settle-epochs", expected)

    @rule(days=st.sampled_from([1, 17, 34, 35]))
    def wait(self, days: int) -> None:
        self.spec.at(self.spec.now_us + days * DAY_MS * 1_000)

    @rule()
    def release(self) -> None:
        now_ms = self.spec.now_us // 1_000
        old = [epoch for epoch, when in self.settled_us.items() if now_ms >= when // 1_000 + 35 * DAY_MS]
        expected = [epoch for epoch in old if epoch not in self.model.released]
        timed = due(self.spec.state, now_ms)
        assert [one.command for one in timed] == [ReleaseLateReserve(epoch) for epoch in expected]
        for epoch in expected:
            self.model.release(epoch)
            self.spec.when(ReleaseLateReserve(epoch), "clock")

    @invariant()
    def the_model_agrees(self) -> None:
        state = self.spec.state
        balances = {name: amount for name, amount in state.balances.items() if not name.startswith("epoch/")}
        assert balances == self.model.balances
        assert (state.supply.minted, state.supply.burned) == (self.model.minted, self.model.burned)

    def teardown(self) -> None:
        known = catalog()
        state = Book()
        for recorded in self.recorded:
            fact = known.decode_data(recorded.fact.TYPE, encode_data(recorded.fact))
            state = evolve(state, Recorded(*(*(getattr(recorded, name) for name in _HEAD), fact)))
        assert state == self.spec.state
        thawed = thaw(freeze(state), Book)
        assert thawed == state
        assert check_book(thawed) == ()


_HEAD = ("service", "position", "stream", "version", "time_us", "id", "actor")

TestBookHistory = BookHistory.TestCase
TestBookHistory.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_a_snapshot_keeps_everything() -> None:
    pools = (
        Pool(name="founders", share_ppm=400_000, member="ada", vesting=Vesting()),
        Pool(name="backfill-old", share_ppm=600_000),
    )
    spec = Spec(sound_service())
    spec.when(AdoptGenesis(community(*pools, backfills=(backfill("old", 600_000_000, 5),)), 5))
    settle(spec, 0, scored((1, MEMBERS[0], 5)))
    spec.when(NoteEpochScores(1, 0, "page", scored((1, MEMBERS[0], 5))))
    assert thaw(freeze(spec.state), Book) == spec.state
