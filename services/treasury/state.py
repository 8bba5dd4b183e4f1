"""The book as folded from its facts: balances, supply, accounts, and what epochs still owe.

Balances stand apart from what an account is, so that a transfer makes two small steps in one persistent map.
"""

from __future__ import annotations

from dataclasses import dataclass

from immutables import Map

from events.genesis import SubPool
from events.registry_terms import KINDS, DeviceKind
from events.treasury import AccountKind, VestingSchedule
from services.treasury.holdback import Holds
from services.treasury.late_basis import LateBasis, ScorePage

EpochKind = tuple[int, DeviceKind]
"""An epoch's sub-pool: what is settled as a pool of its own."""


@dataclass(frozen=True, slots=True)
class Account:
    """What an account is. `opened_ms` is recorded time; a closed account's id is never used again."""

    owner: str
    kind: AccountKind
    opened_ms: int
    may_go_negative: bool = False
    vesting: VestingSchedule | None = None
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Supply:
    """What was ever minted and burned, in base units; their difference is the sum of all balances."""

    minted: int = 0
    burned: int = 0


@dataclass(frozen=True, slots=True)
class Asset:
    """The book's asset and the parameters epochs are settled with (base units, milliseconds).

    `sub_pools` stand in the order of `KINDS`, GPUs always among them.
    """

    symbol: str
    cap: int
    emission_per_epoch: int
    late_reserve_ppm: int
    late_reserve_ms: int
    sub_pools: tuple[SubPool, ...]
    holdback_ppm: int = 0

    def rate_cap(self, kind: DeviceKind) -> int:
        """Return the base units per reference unit-hour nothing of a kind earns more than."""
        return next(int(pool.rate_cap) for pool in self.sub_pools if pool.kind == kind)


@dataclass(frozen=True, slots=True)
class Fund:
    """A backfill's fund: its account and what one epoch may take from it, in base units."""

    account: str
    pool_per_epoch: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """A settled epoch and kind: its final rate as a fraction, and what bounds late pay until its reserve is released.

    `holdback_ppm` of what is paid late is held back, as it was of what came in time.
    """

    rate_numerator: int
    rate_denominator: int
    release_ms: int
    late: LateBasis | None
    holdback_ppm: int = 0

    @property
    def released(self) -> bool:
        """Whether the late reserve went back: late usage earns nothing any more."""
        return self.late is None


@dataclass(frozen=True, slots=True)
class Epochs:
    """What rewards need to remember. `noted` holds pages of epochs not settled yet, and only those.

    `paying` holds what the epoch that is being settled has paid each owner so far, in base units; `held` what is held
    back of epochs until it has ended and no late pay can come.
    """

    funds: Map[str, Fund] = Map()
    noted: Map[EpochKind, Map[int, ScorePage]] = Map()
    paying: Map[EpochKind, Map[str, int]] = Map()
    settled: Map[EpochKind, Settlement] = Map()
    held: Map[int, Holds] = Map()


@dataclass(frozen=True, slots=True)
class Book:
    """The whole state. Every account of `accounts` stands in `balances`, at 0 from its opening on."""

    balances: Map[str, int] = Map()
    supply: Supply = Supply()
    accounts: Map[str, Account] = Map()
    asset: Asset | None = None
    epochs: Epochs = Epochs()


def initial() -> Book:
    """Return the book before its first fact."""
    return Book()


def no_late_pay(state: Book, epoch: int) -> bool:
    """Tell whether an epoch is settled and the late reserves of all its kinds were released."""
    found = [state.epochs.settled.get((epoch, kind)) for kind in KINDS]
    known = [settlement for settlement in found if settlement is not None]
    return bool(known) and all(settlement.released for settlement in known)
