"""Usage recorded after its epoch had closed, in time or proved by its spool, at the lowest factors since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from immutables import Map

from events.metering import DeviceScore, NodeScore
from events.registry_terms import DeviceKind
from services.metering.scoring import PER_MICRO, Factors, NodeTally, factors_at, judge, tally_read
from services.metering.state import ClaimClass, Metering, Paid


def late_scores(state: Metering, epoch: int, scored_in: int, kind: DeviceKind) -> Sequence[NodeScore]:
    """Return what a closed epoch counts of a kind beyond what it was scored for, per node, rounded down.

    It is scored at the lowest factors of all epochs from its own to the one whose close scores it: of those between,
    too, or who is late already would wait until better ones.
    """
    tallied = tally_read(state, epoch, kind)
    tallied = {node: found for node, found in tallied.items() if _is_more(state, epoch, node, found)}
    lowest = dict(_factors(state, epoch, tallied))
    for later in range(epoch + 1, scored_in + 1) if tallied else ():
        for key, factors in _factors(state, later, tallied).items():
            lowest[key] = _lower(lowest[key], factors)
    found = [_score(state, epoch, node, tallied[node], lowest) for node in tallied]
    return [score for score in found if score.devices]


def _is_more(state: Metering, epoch: int, node: str, tallied: NodeTally) -> bool:
    """Tell whether a node counts anything beyond what it was scored for."""
    paid: Mapping[ClaimClass, Paid] = state.paid.get(epoch, Map())
    return any(
        (known := paid.get((node, device_id, kind))) is None or counted > known.share_milli_ms
        for device_id, device in tallied.devices.items()
        for kind, counted in device.counted.items()
    )


def _factors(state: Metering, epoch: int, tallied: Mapping[str, NodeTally]) -> Mapping[ClaimClass, Factors]:
    owned = [(device, node.owner) for node in tallied.values() for device in node.devices]
    return factors_at(state, epoch, tallied, judge(state, epoch, owned))


def _lower(one: Factors, other: Factors) -> Factors:
    return min(one[0], other[0]), min(one[1], other[1])


def _score(
    state: Metering, epoch: int, node: str, tallied: NodeTally, factors: Mapping[ClaimClass, Factors]
) -> NodeScore:
    scores: list[DeviceScore] = []
    weighted = total = 0
    for device_id, device in tallied.devices.items():
        for kind, counted in sorted(device.counted.items()):
            key = (node, device_id, kind)
            paid = state.paid[epoch].get(key) if epoch in state.paid else None
            factor, ppm = factors[key]
            if paid is not None:
                counted -= paid.share_milli_ms  # noqa: PLW2901 - only what was not counted yet
                factor, ppm = _lower((factor, ppm), (paid.performance_factor, paid.reliability_ppm))
            if counted > 0:
                weighted += counted * factor * ppm
                total += counted
                scores.append(DeviceScore(device_id, kind, str(counted), factor, ppm))
    return NodeScore(node, tallied.owner, str(weighted // PER_MICRO), "0", str(total), str(total), tuple(scores))
