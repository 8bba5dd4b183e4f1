"""How far every follower of this instance is behind, for `commons lag` and for `/metrics`."""

from __future__ import annotations

from infra.platform import Platform
from projections.lag import Lag, PolicyPlace
from projections.lag import lag as measure
from services.registry.erasing import FOLLOWER, SOURCE


async def followers(platform: Platform) -> list[Lag]:
    """Return the delay of every view and policy. Raises StoreUnavailable."""
    policies = [
        PolicyPlace(name, policy.name, policy.source)
        for name, service in platform.services.items()
        for policy in service.policies
    ]
    policies.append(PolicyPlace(SOURCE, FOLLOWER.removeprefix("policy/"), SOURCE))
    return await measure(platform.stores, platform.views, platform.view_store, policies)
