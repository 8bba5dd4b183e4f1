"""Deciders: three pure functions per service, and the value that names them.

`initial()` is the empty state; `evolve(state, recorded)` folds one fact and never refuses, never reads a clock;
`decide(command, state, context)` returns what becomes fact or raises a Refusal. States are immutable values with
persistent maps inside, so what was decided but not committed is simply dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from events.catalog import Recorded
from events.envelope import Fact
from services.kernel.directory import Directory

S = TypeVar("S")


class Command:
    """Marks the frozen dataclasses that ask for something, named in the imperative."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Context:
    """What a decision may know besides its command and the state.

    `time_us` is the recorded time its facts will have (set under the lock), `position` the head before them.
    `actor` is `member/<id>`, `node/<id>`, `policy/<name>` or `clock`.
    """

    actor: str
    command_id: str
    time_us: int
    position: int
    directory: Directory

    @property
    def time_ms(self) -> int:
        """Recorded time in whole milliseconds."""
        return self.time_us // 1_000


@dataclass(frozen=True, slots=True)
class Emit:
    """A fact and the stream it goes to."""

    stream: str
    fact: Fact


@dataclass(frozen=True, slots=True)
class Decision:
    """What a command came to: facts (perhaps none) and the JSON object its caller is answered with."""

    facts: Sequence[Emit] = ()
    answer: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timed:
    """A command a deadline gives rise to. `key` makes its command id, so that two clocks are harmless."""

    key: str
    command: Command


@dataclass(frozen=True, slots=True)
class Policy:
    """Turns other services' facts into commands of this one. `name` is published like a type and never reused.

    `react` is pure; the commands' ids derive from (fact id, name, ordinal, attempt): twice is once.
    """

    name: str
    source: str
    listens: tuple[type[Fact], ...]
    react: Callable[[Recorded], Sequence[Command]]


@dataclass(frozen=True)
class Service(Generic[S]):
    """A service's rules as one value; the same names stand in every service's package.

    `decide` maps each command type to its function. `due(state, now_ms)` lists commands whose deadline has passed.
    `snapshot_version` names the layout of the state: a change of any state class must raise it.
    """

    name: str
    initial: Callable[[], S]
    evolve: Callable[[S, Recorded], S]
    decide: Mapping[type[Command], Callable[[Any, S, Context], Decision]]
    policies: tuple[Policy, ...] = ()
    due: Callable[[S, int], Sequence[Timed]] = lambda _state, _now_ms: ()
    snapshot_version: int = 1
