"""How holdback changes: scores begin it, challenges serve or forfeit it, disputes stop it, facts end it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from immutables import Map

from events import metering
from events.metering import NodeScore
from events.registry_terms import DeviceKind
from services.metering.holdback import (
    TRIALS_KEPT,
    Dispute,
    Draft,
    Hold,
    Holdback,
    HoldKey,
    Waiting,
    earned,
    put,
)
from services.metering.state import Metering


def holds_back(state: Metering) -> bool:
    """Tell whether the rules hold anything back."""
    return state.rules is not None and bool(state.rules.rules.holdback_ppm)


def held(state: Metering, fact: metering.EpochPaged | metering.LateUsageScored) -> Metering:
    """Return the state after a page of a live epoch's scores, or of late ones."""
    if not holds_back(state):
        return state
    late = isinstance(fact, metering.LateUsageScored)
    scored = fact.epoch, fact.kind or "gpu", fact.nodes
    return replace(state, holdback=with_scores(state.holdback, *scored, late=late))


def challenged(state: Metering, device: str, end_ms: int, *, passed: bool) -> Metering:
    """Return the state after a challenge of a device: it may speak for epochs that had begun when it ended."""
    if not holds_back(state):
        return state
    through = state.grid.epoch_of(end_ms)
    return replace(state, holdback=with_challenge(state.holdback, device, through, passed=passed))


def ended(state: Metering, fact: metering.HoldbackReleased | metering.HoldbackForfeited) -> Metering:
    """Return the state after holds of an epoch ended."""
    released = isinstance(fact, metering.HoldbackReleased)
    known = with_end(state.holdback, fact.epoch, fact.kind, fact.nodes, state.first_kept, released=released)
    return replace(state, holdback=known)


def disputed(state: Metering, fact: metering.UsageDisputed | metering.DisputeEnded) -> Metering:
    """Return the state after a dispute was opened or ended."""
    if isinstance(fact, metering.DisputeEnded):
        return replace(state, holdback=with_ruling(state.holdback, fact.dispute, fact.ruling))
    opened = Dispute(fact.node, fact.epochs, fact.by)
    disputes = state.holdback.disputes.set(fact.dispute, opened)
    return replace(state, holdback=replace(state.holdback, disputes=disputes))


def cleared(state: Metering) -> Metering:
    """Return the state after a close, without what no usage can come to any more."""
    return replace(state, holdback=forgotten(state.holdback, state.first_kept)) if holds_back(state) else state


def with_scores(known: Holdback, epoch: int, kind: DeviceKind, nodes: Sequence[NodeScore], *, late: bool) -> Holdback:
    """Return the holdback after a page of scores: what earns is held, and what is late belongs to what is held."""
    draft = Draft(known)
    over = known.ended.get(epoch, Map())
    upheld = {one.node for one in known.disputes.values() if one.ruling == "upheld" and epoch in one.epochs}
    for node in nodes:
        key, devices = (kind, node.node), earned(node)
        hold = draft.hold(epoch, key)
        if hold is None and key in over:
            covered = over[key]
            if covered is None or set(devices) <= set(covered):
                continue  # it was forfeited, or what is late was released with it
            hold = Hold(covered, ())
            over = over.delete(key)
        hold = hold or Hold((), ())
        if new := tuple(device for device in devices if device not in hold.devices):
            _hold(draft, epoch, key, hold, new, late=late)
            if node.node in upheld:
                forfeit(draft, epoch, key, "upheld-dispute")
    return replace(draft.done(), ended=put(known.ended, epoch, over))


def _hold(draft: Draft, epoch: int, key: HoldKey, hold: Hold, new: tuple[str, ...], *, late: bool) -> None:
    """Hold what more devices earned; challenges that wait speak for them at once."""
    unserved, lost = [], False
    for device in new:
        place = (epoch, *key)
        places = draft.of_device.get(device, ())
        if place not in places:
            draft.of_device[device] = tuple(sorted((*places, place)))
        waiting = draft.challenges.get(device, Waiting())
        failed, passed = _first(waiting.failed, epoch), _first(waiting.passed, epoch)
        if failed is not None:
            draft.challenges[device] = replace(waiting, failed=_without(waiting.failed, failed))
            lost = True
        elif late and waiting.failed_through >= epoch:
            lost = True  # in time it would have been among those that the failed challenge could cost
        elif passed is not None:
            draft.challenges[device] = replace(waiting, passed=_without(waiting.passed, passed))
        else:
            unserved.append(device)
    draft.put(
        epoch,
        key,
        Hold(
            tuple(sorted((*hold.devices, *new))),
            tuple(sorted((*hold.unserved, *unserved))),
            hold.cause or ("failed-challenge" if lost else ""),
        ),
    )


def _first(through: Sequence[int], epoch: int) -> int | None:
    """Return the place of the first challenge that may speak for an epoch."""
    return next((place for place, last in enumerate(through) if last >= epoch), None)


def _without(through: tuple[int, ...], place: int) -> tuple[int, ...]:
    return (*through[:place], *through[place + 1 :])


def with_challenge(known: Holdback, device: str, through: int, *, passed: bool) -> Holdback:
    """Return the holdback after a challenge of a device that ended in the epoch `through`."""
    draft = Draft(known)
    for epoch, kind, node in draft.of_device.get(device, ()):
        hold = draft.hold(epoch, (kind, node))
        if epoch > through or hold is None or hold.cause:
            continue
        if not passed:
            forfeit(draft, epoch, (kind, node), "failed-challenge")
            break
        if device in hold.unserved:
            rest = tuple(one for one in hold.unserved if one != device)
            draft.put(epoch, (kind, node), replace(hold, unserved=rest))
            break
    else:
        waiting = draft.challenges.get(device, Waiting())
        if passed:
            waiting = replace(waiting, passed=tuple(sorted((*waiting.passed, through)))[-TRIALS_KEPT:])
        else:
            waiting = replace(waiting, failed=tuple(sorted((*waiting.failed, through)))[-TRIALS_KEPT:])
        draft.challenges[device] = waiting
    if not passed:
        waiting = draft.challenges.get(device, Waiting())
        draft.challenges[device] = replace(waiting, failed_through=max(through, waiting.failed_through))
    return draft.done()


def forfeit(draft: Draft, epoch: int, key: HoldKey, cause: Literal["failed-challenge", "upheld-dispute"]) -> None:
    """Mark a hold as forfeited; the first cause stands."""
    hold = draft.hold(epoch, key)
    if hold is not None and not hold.cause:
        draft.put(epoch, key, replace(hold, cause=cause))


def with_end(
    known: Holdback, epoch: int, kind: DeviceKind, nodes: Iterable[str], first_kept: int, *, released: bool
) -> Holdback:
    """Return the holdback after these nodes' of an epoch ended; it is remembered while late usage may come."""
    draft = Draft(known)
    over = known.ended.get(epoch, Map())
    for node in nodes:
        key = (kind, node)
        hold = draft.hold(epoch, key)
        assert hold is not None, key
        draft.put(epoch, key, None)
        for device in hold.devices:
            places = tuple(place for place in draft.of_device.get(device, ()) if place != (epoch, *key))
            if places:
                draft.of_device[device] = places
            else:
                draft.of_device.pop(device, None)
        if epoch >= first_kept:
            over = over.set(key, hold.devices if released else None)
    ends = known.ends.set(epoch, known.ends.get(epoch, 0) + 1)
    return replace(draft.done(), ended=put(known.ended, epoch, over), ends=ends)


def with_ruling(known: Holdback, dispute: str, ruling: Literal["upheld", "dismissed"]) -> Holdback:
    """Return the holdback after a dispute ended; upheld, all it names that is still held is forfeited."""
    opened = known.disputes[dispute]
    draft = Draft(replace(known, disputes=known.disputes.set(dispute, replace(opened, ruling=ruling))))
    if ruling == "upheld":
        for epoch in opened.epochs:
            for key in known.held.get(epoch, Map()):
                if key[1] == opened.node:
                    forfeit(draft, epoch, key, "upheld-dispute")
    return draft.done()


def forgotten(known: Holdback, first_kept: int) -> Holdback:
    """Return the holdback without what no usage can come to any more: before `first_kept` no epoch is kept."""
    challenges = known.challenges.mutate()
    for device, waiting in known.challenges.items():
        rest = Waiting(
            tuple(last for last in waiting.passed if last >= first_kept),
            tuple(last for last in waiting.failed if last >= first_kept),
            waiting.failed_through if waiting.failed_through >= first_kept else -1,
        )
        if rest == Waiting():
            del challenges[device]
        elif rest != waiting:
            challenges[device] = rest
    disputes = {
        name: one
        for name, one in known.disputes.items()
        if not one.ruling or any(epoch >= first_kept or epoch in known.held for epoch in one.epochs)
    }
    return replace(
        known,
        challenges=challenges.finish(),
        disputes=Map(disputes),
        ended=Map({epoch: ended for epoch, ended in known.ended.items() if epoch >= first_kept}),
        ends=Map({epoch: count for epoch, count in known.ends.items() if epoch >= first_kept or epoch in known.held}),
    )
