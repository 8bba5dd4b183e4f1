"""The registry's manifest."""

from __future__ import annotations

from services.kernel.decider import Service
from services.registry.decide import DECIDE
from services.registry.policies import policies
from services.registry.state import Directory, evolve, initial


def service() -> Service[Directory]:
    """Return the registry as one value."""
    return Service(
        name="registry", initial=initial, evolve=evolve, decide=DECIDE, policies=policies(), snapshot_version=2
    )
