"""What other services' facts ask of the registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from events.catalog import Recorded
from events.metering import ChallengeResultsRecorded
from services.kernel.decider import Command, Policy
from services.registry.commands import NoteChallenges


def policies() -> tuple[Policy, ...]:
    """Return the registry's policies."""
    return (Policy("registry.verify-nodes", "metering", (ChallengeResultsRecorded,), verify_nodes),)


def verify_nodes(recorded: Recorded) -> Sequence[Command]:
    """Count the challenges a node's devices passed, each whole; three per GPU verify the node."""
    fact = recorded.fact
    assert isinstance(fact, ChallengeResultsRecorded), fact
    runs = [(result.device, result.challenge) for result in fact.results]
    failed = {run for run, passed in zip(runs, fact.passed, strict=True) if not passed}
    passed = Counter(device for device, _ in set(runs) - failed)
    if not passed:
        return ()
    return (NoteChallenges(fact.node, tuple(sorted(passed.items())), recorded.id),)
