"""The followers of a process: every policy, every view, and the destroying of keys, divided by role."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Final

from infra.telemetry.following import traced
from projections.runner import ViewRunner
from services.kernel.policies import PolicyRunner
from services.kernel.replaying import follower_of
from services.registry.erasing import SOURCE as ERASES
from services.registry.erasing import EraseRunner

if TYPE_CHECKING:
    from infra.platform import Platform

FOLLOW: Final = "follow"
"""The role of all followers; `follow:<service>` has that service's policies, and the views that name it first."""


def followers_of(platform: Platform, roles: Sequence[str]) -> list[Awaitable[None]]:
    """Return the work of the followers that `roles` name."""
    every = FOLLOW in roles
    named = [name for name in platform.services if every or f"{FOLLOW}:{name}" in roles]
    work: list[Awaitable[None]] = [runner.run() for runner in policy_runners(platform) if runner.service in named]
    work += [runner.run() for runner in view_runners(platform) if runner.view.services[0] in named]
    if ERASES in named:
        work.append(erase_runner(platform).run())
    return work


def policy_runners(platform: Platform) -> list[PolicyRunner]:
    """Return a runner for each policy of each service."""
    bus = traced(platform.bus, platform.telemetry)
    return [
        PolicyRunner(
            policy,
            platform.appenders[name],
            bus,
            platform.catalog,
            platform.asides[name],
            platform.telemetry,
            hindered=partial(platform.bus.hindered, follower_of(policy)),
        )
        for name, service in platform.services.items()
        for policy in service.policies
    ]


def view_runners(platform: Platform) -> list[ViewRunner]:
    """Return a runner for each view."""
    bus = traced(platform.bus, platform.telemetry)
    return [
        ViewRunner(view, platform.view_store, bus, platform.catalog, platform.versions.make, platform.telemetry)
        for view in platform.views
    ]


def erase_runner(platform: Platform) -> EraseRunner:
    """Return the follower that destroys the keys of erased subjects."""
    return EraseRunner(platform.subject_keys, platform.stores["registry"], platform.bus, platform.catalog)
