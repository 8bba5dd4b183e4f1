"""A group of commands being decided: the state as it would be, and what would be written. No I/O here."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import msgspec
from eventsourcing.persistence import StoredEvent

from events.catalog import Recorded
from events.envelope import MAX_RECORD_BYTES, Draft, encode_data, fact_id, open_record, seal_record, time_text
from events.store import Head, Move, Outcome
from services.kernel.decider import Command, Context, Emit, Service
from services.kernel.directory import Directory
from services.kernel.errors import AuthenticationFailed, CommonsError, OtherInputs, RecordTooLarge

S = TypeVar("S")

_TAIL_BYTES: Final = 120
"""Room for stream version, time and position at the end of a record (at most 109 bytes)."""

_ENCODE_ANSWER: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Request:
    """A command with who asks and under which id. `inputs` is what was asked, in canonical bytes.

    `kid` is the key that signed, where one did: it is looked at again under the lock, because a key may die between
    the edge and the decision. `input_key` replaces the store's own key of the inputs' hash: for what touches sealed
    data it is the subject's, so that erasing blinds the hash too.
    """

    command: Command
    actor: str
    command_id: str
    inputs: bytes
    causation_id: str | None = None
    correlation_id: str | None = None
    kid: str | None = None
    input_key: bytes | None = None

    @property
    def key(self) -> bytes:
        """The permanent name of this command."""
        return outcome_key(self.actor, self.command_id)


Found = list[tuple[Outcome, bool]]
"""The outcomes of a unit's requests, each with whether it is a repetition."""


def outcome_key(actor: str, command_id: str) -> bytes:
    """Return SHA-256 over length-prefixed (actor, command id): the permanent name of one command."""
    one, two = actor.encode(), command_id.encode()
    return hashlib.sha256(len(one).to_bytes(8, "big") + one + len(two).to_bytes(8, "big") + two).digest()


@dataclass(slots=True)
class Group(Generic[S]):
    """Decides commands in sequence on top of `state`; a refused unit leaves the group as it was before it.

    `versions` are the last stream versions committed; what the group adds to them stands in `fresh`.
    """

    service: Service[S]
    state: S
    head: Head
    time_us: int
    directory: Directory
    versions: Mapping[str, int]
    known: Mapping[bytes, Outcome]
    input_key: bytes
    events: list[StoredEvent] = field(default_factory=list)
    outcomes: dict[bytes, Outcome] = field(default_factory=dict)
    moves: list[Move] = field(default_factory=list)
    fresh: dict[str, int] = field(default_factory=dict)
    founding_origin: str = ""

    def attempt(self, requests: Sequence[Request], moves: Sequence[Move]) -> Found | CommonsError:
        """Decide a unit, all or none; a refusal is returned, not raised."""
        state, count = self.state, len(self.events)
        found: Found = []
        try:
            for request in requests:
                found.append(self._decide(request))
        except CommonsError as refusal:
            self.state = state
            self._undo(count, [outcome.key for outcome, hit in found if not hit])
            return refusal
        self.moves.extend(moves)
        return found

    def _undo(self, count: int, keys: Sequence[bytes]) -> None:
        for event in reversed(self.events[count:]):
            self.fresh[event.originator_id] = event.originator_version - 1  # type: ignore[index]
        del self.events[count:]
        for key in keys:
            del self.outcomes[key]

    def _decide(self, request: Request) -> tuple[Outcome, bool]:
        key = request.key
        input_key = request.input_key or self.input_key
        inputs = hmac.digest(input_key, request.actor.encode() + b"\0" + request.inputs, "sha256")
        earlier = self.known.get(key) or self.outcomes.get(key)
        if earlier is not None:
            if not hmac.compare_digest(earlier.inputs, inputs):
                raise OtherInputs("this command id was used before with other inputs", command_id=request.command_id)
            return earlier, True
        if request.kid is not None and not self.directory.lives(request.kid):
            raise AuthenticationFailed("the key that signed this died before it was decided", kid=request.kid)
        before = self.head.position + len(self.events)
        context = Context(request.actor, request.command_id, self.time_us, before, self.directory)
        decision = self.service.decide[type(request.command)](request.command, self.state, context)
        for index, emit in enumerate(decision.facts):
            self._record(request, fact_id(key, index), emit)
        last = self.head.position + len(self.events)
        first, last = (before + 1, last) if last > before else (0, 0)
        outcome = Outcome(key, inputs, first, last, _ENCODE_ANSWER(decision.answer))
        self.outcomes[key] = outcome
        return outcome, False

    def _record(self, request: Request, identity: str, emit: Emit) -> None:
        name, fact, stream = self.service.name, emit.fact, emit.stream
        position = self.head.position + len(self.events) + 1
        version = self.fresh.get(stream)
        version = (self.versions.get(stream, 0) if version is None else version) + 1
        opened = open_record(
            Draft(
                identity,
                f"{self._origin(fact)}/{name}",
                fact.TYPE,
                stream,
                encode_data(fact),
                request.actor,
                request.command_id,
                request.causation_id,
                request.correlation_id,
            )
        )
        if len(opened) + _TAIL_BYTES > MAX_RECORD_BYTES:
            raise RecordTooLarge(f"a fact of {len(opened)} bytes does not fit in a record", limit=MAX_RECORD_BYTES)
        recorded = Recorded(name, position, stream, version, self.time_us, identity, request.actor, fact)
        self.events.append(StoredEvent(stream, version, fact.TYPE, opened))
        self.fresh[stream] = version
        self.state = self.service.evolve(self.state, recorded)

    def _origin(self, fact: Any) -> str:
        """Return the community's origin; before the directory knows it, the group's founding fact names it."""
        self.founding_origin = getattr(getattr(fact, "community", None), "origin", self.founding_origin)
        return self.directory.origin or self.founding_origin


def sealer(time_us: int) -> Callable[[StoredEvent, int, int], bytes]:
    """Return the seal of one session: all its facts share the recorded time, so its text is made once."""
    time = time_text(time_us)

    def seal(event: StoredEvent, position: int, _time_us: int) -> bytes:
        return seal_record(event.state, event.originator_version, time, position)

    return seal
