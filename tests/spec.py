"""Given facts, when a command, then facts or a refusal: rules are tested without I/O, through the real kernel group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from events.catalog import Recorded
from events.envelope import Fact
from events.store import Head
from services.kernel.decider import Command, Emit, Service
from services.kernel.directory import Directory
from services.kernel.directory import evolve as evolve_directory
from services.kernel.errors import CommonsError
from services.kernel.group import Group, Request

NOW_US = 1_760_000_000_000_000
"""The recorded time of a spec unless it says otherwise (2025-10-09)."""


@dataclass
class Spec:
    """A service with a history. `at` sets the recorded time of what follows; `directory` knows registry facts."""

    service: Service[Any]
    directory: Directory = field(default_factory=Directory)
    now_us: int = NOW_US
    position: int = 0
    counter: int = 0

    def __post_init__(self) -> None:
        self.state = self.service.initial()
        self.versions: dict[str, int] = {}

    def at(self, now_us: int) -> Spec:
        self.now_us = now_us
        return self

    def knowing(self, *emits: Emit) -> Spec:
        """Fold registry facts into the directory."""
        for emit in emits:
            self.directory = evolve_directory(self.directory, self._recorded("registry", emit))
        return self

    def given(self, *emits: Emit) -> Spec:
        """Fold facts of the service as if they had been recorded now."""
        for emit in emits:
            self.state = self.service.evolve(self.state, self._recorded(self.service.name, emit))
        return self

    def when(
        self, command: Command, actor: str = "member/" + "0" * 32, command_id: str | None = None
    ) -> Sequence[Fact]:
        """Decide the command, fold what it came to, and return the facts; raises the refusal."""
        return [emit.fact for emit in self.decide(command, actor, command_id)]

    def decide(
        self, command: Command, actor: str = "member/" + "0" * 32, command_id: str | None = None
    ) -> Sequence[Emit]:
        """Like `when`, with the streams; the answer's JSON stands in `answer` afterwards."""
        self.counter += 1
        group: Group[Any] = Group(
            self.service,
            self.state,
            Head(self.position, self.now_us, b""),
            self.now_us,
            self.directory,
            self.versions,
            {},
            b"spec",
        )
        facts: list[Emit] = []
        seen = group.service.evolve

        def watch(state: Any, recorded: Recorded) -> Any:
            facts.append(Emit(recorded.stream, recorded.fact))
            return seen(state, recorded)

        group.service = _watched(self.service, watch)
        request = Request(command, actor, command_id or f"spec-{self.counter}", repr(command).encode())
        found = group.attempt([request], [])
        if isinstance(found, CommonsError):
            raise found
        self.answer = found[0][0].answer
        self.state = group.state
        self.position += len(group.events)
        self.versions.update(group.fresh)
        return facts

    def _recorded(self, service: str, emit: Emit) -> Recorded:
        position = self.directory.position + 1 if service == "registry" != self.service.name else self.position + 1
        if service == self.service.name:
            self.position = position
        version = self.versions.get(emit.stream, 0) + 1
        if service == self.service.name:
            self.versions[emit.stream] = version
        identity = f"00000000-0000-8000-8000-{position:012d}"
        return Recorded(service, position, emit.stream, version, self.now_us, identity, None, emit.fact)


def _watched(service: Service[Any], evolve: Any) -> Service[Any]:
    return Service(
        service.name, service.initial, evolve, service.decide, service.policies, service.due, service.snapshot_version
    )
