"""Where a view stands whose partitions are not equally far: everything up to the lowest, and some of what follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from eventsourcing.persistence import Notification

from events.channels import partition_of, positions_by_service, service_of, share_of
from events.store import Checkpoint


@dataclass(frozen=True, slots=True)
class Edge:
    """One service's checkpoints of a view, by channel. Everything up to `low` is folded, nothing beyond `high`."""

    channels: Mapping[str, Checkpoint]
    low: int
    high: int
    count: int
    reached: Mapping[int, int]

    def holds(self, record: Notification) -> bool:
        """Tell whether the view has folded the record: its partition has come so far."""
        return record.id <= self.reached.get(partition_of(str(record.originator_id), self.count), self.low)


def edge_of(live: Mapping[str, Checkpoint], service: str) -> Edge | None:
    """Return a service's edge, None where the view follows it on one channel."""
    channels = {channel: at for channel, at in live.items() if service_of(channel) == service}
    shares = {share: channels[channel].position for channel in channels if (share := share_of(channel)) is not None}
    if not shares:
        return None
    low = positions_by_service(channels)[service]
    count = next(iter(shares)).count
    high = max(shares.values())
    return Edge(channels, low, high, count, {share.partition: position for share, position in shares.items()})
