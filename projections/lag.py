"""How far every follower is behind: views by their own checkpoints, policies by those in their service's store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from events.channels import positions_by_service
from events.store import Store
from projections.store import ViewStore
from projections.view import View


@dataclass(frozen=True, slots=True)
class PolicyPlace:
    """A policy as seen from here: whose it is, its name, which service's facts it follows, how many it has parked."""

    service: str
    name: str
    source: str
    parked: int = 0


@dataclass(frozen=True, slots=True)
class Lag:
    """One follower on one channel: where it stands, where the channel ends, and what lies between.

    `parked` of the facts it has passed are set aside because they, or one before them in their stream, cannot
    take effect; it counts all channels of the follower.
    """

    follower: str
    channel: str
    position: int
    head: int
    parked: int = 0

    @property
    def behind(self) -> int:
        """How many facts it has not folded yet."""
        return max(self.head - self.position, 0)


async def lag(
    stores: Mapping[str, Store], views: Iterable[View], view_store: ViewStore, policies: Iterable[PolicyPlace]
) -> list[Lag]:
    """Return the delay of every follower, in the order given. Raises StoreUnavailable."""
    heads = {service: (await store.head()).position for service, store in stores.items()}
    found = []
    parked = await view_store.parked_counts()
    for view in views:
        reached = positions_by_service(await view_store.checkpoints(view.follower))
        count = parked.get(view.follower, 0)
        found += [Lag(view.follower, name, reached.get(name, 0), heads[name], count) for name in view.services]
    for policy in policies:
        follower = f"policy/{policy.name}"
        points = await stores[policy.service].checkpoints(follower)
        position = points[policy.source].position if policy.source in points else 0
        found.append(Lag(follower, policy.source, position, heads[policy.source], policy.parked))
    return found
