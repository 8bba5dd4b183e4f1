"""Usage recorded after its epoch had closed, in time or proved by its spool, scored at the lower factors of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from events.metering import DeviceScore, NodeScore
from events.registry_terms import DeviceKind
from services.metering.scoring import PER_MICRO, Factors, NodeTally, factors_at, judge, tally_read
from services.metering.state import ClaimClass, Metering


def late_scores(state: Metering, epoch: int, scored_in: int, kind: DeviceKind) -> Sequence[NodeScore]:
    """Return what a closed epoch counts of a kind beyond what it was scored for, per node, rounded down."""
    tallied = tally_read(state, epoch, kind)
    own = _factors(state, epoch, tallied)
    later = _factors(state, scored_in, tallied)
    found = [
        _score(state, epoch, node, tallied[node], {key: _lower(own[key], later[key]) for key in own})
        for node in tallied
    ]
    return [score for score in found if score.devices]


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
