"""The rules every store adapter enforces in the same words: versions without a hole, moves that chain."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from eventsourcing.persistence import StoredEvent

from events.store import CheckpointMoved, Move, VersionConflict


def next_versions(events: Sequence[StoredEvent], last: Mapping[str, int]) -> dict[str, int]:
    """Return the last version per stream once `events` are stored on top of `last`.

    Raises VersionConflict unless each version is its stream's last one plus one; a stream absent from `last` is new
    and may begin anywhere.
    """
    after: dict[str, int] = {}
    for event in events:
        stream = event.originator_id
        assert isinstance(stream, str), "a stream is named by text"
        before = after.get(stream)
        if before is None:
            before = last.get(stream)
        if before is not None and event.originator_version != before + 1:
            raise VersionConflict(f"{stream} stands at version {before}, so {event.originator_version} cannot follow")
        after[stream] = event.originator_version
    return after


def chained(moves: Iterable[Move]) -> list[Move]:
    """Return one move per follower and channel, joining those that continue one another.

    Commands decided together may each carry a step of the same follower: 3 to 4 and 4 to 9 are one swap, 3 to 9.
    Raises CheckpointMoved when a step does not begin where the one before it ended.
    """
    joined: dict[tuple[str, str], Move] = {}
    for move in moves:
        key = (move.after.follower, move.after.channel)
        first = joined.get(key)
        if first is None:
            joined[key] = move
            continue
        if first.after.position != move.before:
            raise CheckpointMoved(f"{key[0]} on {key[1]} steps to {first.after.position} and then from {move.before}")
        joined[key] = Move(first.before, move.after)
    return list(joined.values())
