"""Naive second models: the same rules written as slowly and plainly as possible, to check every answer against."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal, getcontext
from fractions import Fraction
from math import floor


class BookRefused(Exception):
    """The model refuses; nothing changed."""


class BookModel:
    """The treasury's book with dictionaries and fractions. A score list is [(node, owner, micro-rGPUh)]."""

    def __init__(self, cap: int, emission: int, late_ppm: int, rate_cap: int) -> None:
        self.cap, self.emission, self.late_ppm, self.rate_cap = cap, emission, late_ppm, rate_cap
        self.balances: dict[str, int] = {"pool/emission-reserve": 0}
        self.owners: dict[str, str] = {}
        self.minted = 0
        self.burned = 0
        self.funds: dict[str, int] = {}
        self.rates: dict[int, Fraction] = {}
        self.available: dict[int, int] = {}
        self.in_time: dict[int, int] = {}
        self.usage: dict[int, list[tuple[str, str, int]]] = {}
        self.late_usage: dict[int, list[tuple[str, str, int]]] = {}
        self.earned: dict[tuple[int, str], int] = {}
        self.released: set[int] = set()

    def open(self, account: str, owner: str) -> None:
        if account in self.balances:
            raise BookRefused(account)
        self.balances[account] = 0
        self.owners[account] = owner

    def mint(self, account: str, amount: int) -> None:
        self.balances[account] += amount
        self.minted += amount

    def post(self, actor: str, postings: Iterable[tuple[str, str, int]]) -> None:
        after = dict(self.balances)
        for debit, credit, amount in postings:
            allowed = debit in after and credit in after and self.owners.get(debit) == actor and debit != credit
            if not allowed or amount <= 0 or after[debit] < amount or credit.startswith("late-reserve/"):
                raise BookRefused(f"{debit} to {credit}: {amount}")
            after[debit] -= amount
            after[credit] += amount
        self.balances = after

    def burn(self, actor: str, account: str, amount: int) -> None:
        if self.owners.get(account) != actor or not 0 < amount <= self.balances[account]:
            raise BookRefused(account)
        self.balances[account] -= amount
        self.burned += amount

    def settle(self, epoch: int, scores: Sequence[tuple[str, str, int]], backfill: str | None) -> dict[str, int]:
        """Return what each node earns; `paid + late reserve + kept = pool`."""
        if epoch in self.rates:
            raise BookRefused(str(epoch))
        if backfill is None:
            pool = min(self.emission, self.cap - (self.minted - self.burned))
            self.minted += pool
        else:
            pool = min(self.funds[backfill], self.balances[f"fund/{backfill}"])
            self.balances[f"fund/{backfill}"] -= pool
        total = sum(score for _, _, score in scores)
        reserve = floor(Fraction(pool * self.late_ppm, 1_000_000))
        payable = min(pool - reserve, floor(Fraction(self.rate_cap * total, 1_000_000)))
        pay = book_shares(payable, {node: score for node, _, score in scores})
        for node, owner, _ in scores:
            if pay[node]:
                self.balances[owner] = self.balances.get(owner, 0) + pay[node]
                self.earned[epoch, owner] = self.earned.get((epoch, owner), 0) + pay[node]
        self.available[epoch], self.in_time[epoch], self.usage[epoch] = pool - reserve, total, list(scores)
        self.balances[f"late-reserve/{epoch}"] = reserve
        self.balances["pool/emission-reserve"] += pool - reserve - payable
        self.rates[epoch] = Fraction(payable, total) if total else Fraction(self.rate_cap, 1_000_000)
        return pay

    def late(self, epoch: int, scores: Sequence[tuple[str, str, int]]) -> dict[str, int]:
        """Return what each node's late usage earns; nothing after the release."""
        if epoch not in self.rates:
            raise BookRefused(str(epoch))
        account = f"late-reserve/{epoch}"
        reserve = self.balances[account]
        pay = {node: floor(score * self.rates[epoch]) for node, _, score in scores}
        self.late_usage.setdefault(epoch, []).extend(scores)
        for owner in {owner for _, owner, score in scores if score}:
            mine = {node: pay[node] for node, of, _ in scores if of == owner}
            room, asked = max(0, self.deserved(epoch, owner) - self.earned.get((epoch, owner), 0)), sum(mine.values())
            if asked > room:
                pay |= {node: floor(Fraction(room * part, asked)) for node, part in mine.items()}
        whole = sum(pay.values())
        if whole > reserve:
            pay = {node: floor(Fraction(reserve * part, whole)) for node, part in pay.items()}
        for node, owner, _ in scores:
            if pay[node]:
                self.balances[owner] = self.balances.get(owner, 0) + pay[node]
                self.balances[account] -= pay[node]
                self.earned[epoch, owner] = self.earned.get((epoch, owner), 0) + pay[node]
        return pay

    def deserved(self, epoch: int, owner: str) -> int:
        """What an owner's usage would have earned in time: with the others' late usage in time too, or without."""
        found = []
        for others in (True, False):
            late = [row for row in self.late_usage[epoch] if others or row[1] == owner]
            whole = self.in_time[epoch] + sum(score for _, _, score in late)
            payable = min(self.available[epoch], floor(Fraction(self.rate_cap * whole, 1_000_000)))
            nodes: dict[str, int] = {}
            for node, of, score in [*self.usage[epoch], *late]:
                nodes[node] = nodes.get(node, 0) + (score if of == owner else 0)
            found.append(sum(floor(Fraction(payable * score, whole)) for score in nodes.values()))
        return min(found)

    def release(self, epoch: int) -> None:
        self.balances["pool/emission-reserve"] += self.balances[f"late-reserve/{epoch}"]
        self.balances[f"late-reserve/{epoch}"] = 0
        self.released.add(epoch)


def book_shares(whole: int, weights: dict[str, int]) -> dict[str, int]:
    """Divide `whole` by weight: floors, then one unit at a time to the largest fraction left, ties by name."""
    total = sum(weights.values())
    if not total:
        return dict.fromkeys(weights, 0)
    ideal = {name: Fraction(whole * weight, total) for name, weight in weights.items()}
    parts = {name: floor(part) for name, part in ideal.items()}
    waiting = sorted(weights)
    while sum(parts.values()) < whole:
        first = max(waiting, key=lambda name: ideal[name] - parts[name])
        waiting.remove(first)
        parts[first] += 1
    return parts


class MeteringModel:
    """Metering minute by minute. A reading is `(device, lease, first minute, minutes, level)`; R by decimals."""

    def __init__(self, shares: dict[str, int]) -> None:
        self.shares = shares
        self.levels: dict[tuple[str, str], dict[int, int]] = {}

    def read(self, device: str, lease: str, first: int, minutes: int, level: int) -> None:
        known = self.levels.setdefault((device, lease), {})
        for minute in range(first, first + minutes):
            known[minute] = min(level, known.get(minute, level))

    def over(self, device: str) -> set[int]:
        """The minutes in which a device's readings sum above the whole device."""
        sums: dict[int, int] = {}
        for (of, _), levels in self.levels.items():
            for minute, level in levels.items() if of == device else ():
                sums[minute] = sums.get(minute, 0) + level
        return {minute for minute, total in sums.items() if total > 1_000}

    def counted(self, device: str, minutes: range) -> int:
        """Counted share x minutes of a device."""
        over = self.over(device)
        return sum(
            min(self.shares[lease], level)
            for (of, lease), levels in self.levels.items()
            for minute, level in levels.items()
            if of == device and minute in minutes and minute not in over
        )

    def utilised(self, device: str, minutes: range) -> int:
        return sum(
            level
            for (of, _), levels in self.levels.items()
            for minute, level in levels.items()
            if of == device and minute in minutes
        )


def metering_bound(trials: Sequence[tuple[int, bool, Fraction]], now_day: int) -> int:
    """The lower bound (ppm) of trials `(day, success, weight)`, straight from the formula in 100 digits."""
    getcontext().prec = 100
    known = [trial for trial in trials if trial[0] <= now_day]
    newest = max((day for day, success, _ in known if success), default=0)
    alpha = beta = Decimal(1)
    for day, success, weight in known:
        age = now_day - day if success else max(0, newest - day)
        published = (Decimal("0.5") ** (Decimal(age % 14) / 14)).quantize(Decimal("1e-18"))
        value = published / 2 ** (age // 14) * weight.numerator / weight.denominator
        alpha, beta = (alpha + value, beta) if success else (alpha, beta + value)
    total = alpha + beta
    bound = alpha / total - (alpha * beta / (total * total * (total + 1))).sqrt()
    return max(0, floor(bound * 1_000_000))


def metering_score(parts: Iterable[tuple[int, int, int]]) -> int:
    """Micro reference-GPU-hours of `(share x ms, PF x 10,000, R ppm)`, rounded half-even once (as `round` does)."""
    return round(
        sum(
            (Fraction(share, 3_600_000_000) * Fraction(factor, 10_000) * ppm for share, factor, ppm in parts),
            Fraction(0),
        )
    )


class HoldbackModel:
    """What is held back, as plainly as the rules say it: every challenge in one list, and all worked out from it."""

    def __init__(self) -> None:
        self.devices: dict[tuple[int, str, str], set[str]] = {}
        """(epoch, kind, node) to the devices that earned there."""
        self.state: dict[tuple[int, str, str], str] = {}
        self.passes: list[tuple[str, int]] = []
        """(device, epoch in which it ended)."""
        self.failures: list[tuple[int, str, str]] = []
        self.disputes: list[dict[str, object]] = []

    def score(self, key: tuple[int, str, str], devices: Iterable[str]) -> None:
        known = self.devices.setdefault(key, set())
        if self.state.get(key) != "forfeited" and not known.issuperset(devices):
            known.update(devices)
            self.state[key] = "held"  # also where it was released: the release did not cover these

    def challenge(self, device: str, key: tuple[int, str, str], *, passed: bool) -> None:
        if passed:
            self.passes.append((device, key[0]))
        else:
            self.failures.append(key)

    def slots(self, device: str) -> set[int]:
        """Every pass in turn takes its own epoch's slot, or the nearest earlier free one."""
        taken: set[int] = set()
        for of, epoch in self.passes:
            if of == device:
                taken.add(next(slot for slot in range(epoch, -(10**9), -1) if slot not in taken))
        return taken

    def _named(self, key: tuple[int, str, str], ruling: str) -> bool:
        return any((one["epoch"], one["node"], one["ruling"]) == (key[0], key[2], ruling) for one in self.disputes)

    def end(self, next_live: int) -> dict[tuple[int, str, str], str]:
        """Return what ends now, and how."""
        ends = {}
        for key in [key for key, state in self.state.items() if state == "held"]:
            if key in self.failures or self._named(key, "upheld"):
                ends[key] = "forfeited"
            elif key[0] + 7 >= next_live or self._named(key, ""):
                continue
            elif all(key[0] in self.slots(device) for device in self.devices[key]):
                ends[key] = "released"
        self.state |= ends
        return ends
