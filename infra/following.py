"""The followers of this instance: how far each is behind, what it has parked, and which one a name means."""

from __future__ import annotations

from dataclasses import dataclass

from events.parked import Parked
from infra.buses import RELAY, relay_channels
from infra.platform import Platform
from projections.lag import Lag, PolicyPlace
from projections.lag import lag as measure
from projections.view import View
from services.kernel.decider import Policy
from services.kernel.replaying import follower_of
from services.registry.erasing import FOLLOWER, SOURCE


async def followers(platform: Platform) -> list[Lag]:
    """Return the delay of every view and policy. Raises StoreUnavailable."""
    parked = {name: await aside.counts() for name, aside in platform.asides.items()}
    policies = [
        PolicyPlace(name, policy.name, policy.source, parked[name].get(follower_of(policy), 0))
        for name, service in platform.services.items()
        for policy in service.policies
    ]
    policies.append(PolicyPlace(SOURCE, FOLLOWER.removeprefix("policy/"), SOURCE))
    return await measure(platform.stores, platform.views, platform.view_store, policies)


@dataclass(frozen=True, slots=True)
class RelayPlace:
    """How far the brokers have a service's facts, and how many they do not have yet."""

    service: str
    position: int
    behind: int


async def relay_places(platform: Platform) -> list[RelayPlace]:
    """Return where every relay stands; none where nothing is relayed. Raises StoreUnavailable."""
    found = []
    for name, channel in relay_channels(platform.settings, list(platform.stores)).items():
        store = platform.stores[name]
        at = (await store.checkpoints(RELAY)).get(channel)
        position = at.position if at is not None else 0
        found.append(RelayPlace(name, position, max((await store.head()).position - position, 0)))
    return found


@dataclass(frozen=True, slots=True)
class Named:
    """A follower by its checkpoints' name, of which service, and what it is: a view, a policy, the eraser of keys."""

    follower: str
    service: str
    source: str
    view: View | None = None
    policy: Policy | None = None

    @property
    def short(self) -> str:
        """The name people call it by."""
        return self.view.name if self.view is not None else self.follower.removeprefix("policy/")


class NoSuchFollower(Exception):
    """A name means none of the followers; the message lists them."""


def every_follower(platform: Platform) -> list[Named]:
    """Return the followers of this software, views first."""
    found = [Named(view.follower, view.services[0], view.services[0], view=view) for view in platform.views]
    found += [
        Named(follower_of(policy), name, policy.source, policy=policy)
        for name, service in platform.services.items()
        for policy in service.policies
    ]
    return [*found, Named(FOLLOWER, SOURCE, SOURCE)]


def named(platform: Platform, names: list[str]) -> list[Named]:
    """Return the followers that names like `usage`, `view/usage` or `treasury.settle-epochs` mean; all for none.

    Raises NoSuchFollower.
    """
    every = every_follower(platform)
    known = {alias: each for each in every for alias in (each.short, each.follower, _with_kind(each))}
    if unknown := [name for name in names if name not in known]:
        raise NoSuchFollower(
            f"there is no follower {unknown[0]!r}; there are {', '.join(each.short for each in every)}"
        )
    return [known[name] for name in names] if names else every


def _with_kind(each: Named) -> str:
    return f"view/{each.short}" if each.view is not None else each.follower


async def alarms(platform: Platform) -> list[Parked]:
    """Return of all views and policies the first parked fact of every stream. Raises StoreUnavailable."""
    found = list(await platform.view_store.alarms())
    for aside in platform.asides.values():
        found += await aside.alarms()
    return found
