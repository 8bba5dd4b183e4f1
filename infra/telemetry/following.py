"""Gives followers the traces of what they follow: a bus around the bus, only there where somebody traces.

Kafka's records carry their traceparent in a header and the tail's do not; what a page does not bring is looked up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from events.bus import Bus, Follower, Page, Subscription
from events.channels import service_of
from events.telemetry import Telemetry, TraceNotes

KEPT: Final = 64
"""Answers kept: the followers of a process mostly stand at the same place and ask the same."""

_Place = tuple[str, int, int]


class TracedBus:
    """A bus whose pages say which span each record was made in."""

    def __init__(self, bus: Bus, notes: TraceNotes) -> None:
        """Take the bus to follow and where traces are noted."""
        self._bus = bus
        self._notes = notes
        self._known: dict[_Place, Mapping[int, str]] = {}

    async def subscribe(self, follower: Follower) -> TracedSubscription:
        """Return a subscription after the follower's checkpoints; raises what the bus within raises."""
        return TracedSubscription(await self._bus.subscribe(follower), self)

    async def traces(self, page: Page) -> Mapping[int, str]:
        """Return the traceparents of a page's records, by position."""
        service = service_of(page.channel)
        place = (service, page.records[0].id - 1, page.records[-1].id)
        if place not in self._known:
            while len(self._known) >= KEPT:
                del self._known[next(iter(self._known))]
            self._known[place] = await self._notes.noted(*place)
        found = self._known[place]
        if len(found) <= len(page.records):
            return found
        return {record.id: found[record.id] for record in page.records if record.id in found}


def traced(bus: Bus, telemetry: Telemetry) -> Bus:
    """Return the bus to follow: the same one where nobody traces."""
    return TracedBus(bus, telemetry.notes) if telemetry.tracer.active else bus


class TracedSubscription:
    """A follower's place, with traces."""

    def __init__(self, within: Subscription, bus: TracedBus) -> None:
        """Wrap a subscription of the bus within."""
        self._within = within
        self._bus = bus

    async def fetch(self, timeout_seconds: float) -> Page | None:
        """Return the next page with the traces of its records."""
        page = await self._within.fetch(timeout_seconds)
        if page is None or page.traces or not page.records:
            return page
        return replace(page, traces=await self._bus.traces(page))

    async def lag(self) -> Mapping[str, int]:
        """Return how many records each channel still holds."""
        return await self._within.lag()

    async def close(self) -> None:
        """Give the channels to others."""
        await self._within.close()
