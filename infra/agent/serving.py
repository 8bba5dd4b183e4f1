"""What of its promises this machine cannot keep at the moment, by kind of lease."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from infra.agent.leases import HeldLease
from infra.agent.store import Store


def unserved(leases: Iterable[HeldLease], store: Store, *, line_up: bool) -> Iterator[str]:
    """Yield the leases of storage whose content is not kept here in its full length, and of bandwidth without a line.

    GPUs are looked at by device. The processors are there as long as this runs.
    """
    for lease in leases:
        if lease.kind == "storage" and not store.holds(lease.content_root, lease.content_bytes):
            yield lease.lease
        if lease.kind == "bandwidth" and not line_up:
            yield lease.lease
