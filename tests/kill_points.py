"""Named points at which a process of an instance is killed, and a command line that dies there.

`python -m tests.kill_points ARGUMENT...` is `commons ARGUMENT...` with the adapters' and runners' own functions
wrapped: production code knows nothing of it. A point is armed by writing its name, and how many passages it lets go by,
into the file that CRASH_FILE names; whoever passes it then removes the file and kills itself with SIGKILL.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CRASH_FILE = "CRASH_FILE"


@dataclass(frozen=True)
class Point:
    """Before or after a function of `role`'s process, `module:Class.method` or `module:function`."""

    name: str
    role: str
    target: str
    after: bool = False


SESSION = "infra.postgres.session:PostgresSession"
WRITER = "infra.postgres.view_rows:PostgresWriter"
MEMBER = "infra.kafka.membership:Membership"
PUBLISHER = "infra.kafka.publisher:Publisher"
RELAY = "infra.kafka.relay:Relay"
BUILDING = "infra.postgres.view_building:PostgresBuilding"
SWAP = "infra.postgres.view_building:PostgresSwap"
REBUILD = "rebuild"
JOINING = "joining"
LEAVING = "leaving"
RELAUNCHED = "relaunched"

POINTS = (
    Point("http: a group is decided, nothing is written", "http", f"{SESSION}.append"),
    Point("http: facts are written, their outcomes are not", "http", f"{SESSION}._copy", after=True),
    Point("http: everything is written, nothing committed", "http", f"{SESSION}.commit"),
    Point("http: committed, nobody is answered", "http", f"{SESSION}.commit", after=True),
    Point("policy: a page has come, nothing is decided", "follow", "services.kernel.policies:PolicyRunner._react"),
    Point("policy: effect and checkpoint are written, not committed", "follow", f"{SESSION}.commit"),
    Point("policy: effect and checkpoint are committed", "follow", f"{SESSION}.commit", after=True),
    Point("policy: a checkpoint moved without effect", "follow", "infra.postgres.store:PostgresStore.move", after=True),
    Point("view: before the checkpoint", "follow", f"{WRITER}.move"),
    Point("view: between checkpoint and effect", "follow", f"{WRITER}.move", after=True),
    Point("view: in the middle of the rows of a page", "follow", f"{WRITER}.write", after=True),
    Point("view: effect and checkpoint stand, not committed", "follow", "projections.fold:Workspace.write", after=True),
    Point("view: effect and checkpoint are committed", "follow", "projections.intake:Intake.take", after=True),
    Point("relay: a page is read, nothing is sent", "relay", f"{PUBLISHER}.facts"),
    Point("relay: in the middle of a page", "relay", f"{PUBLISHER}.deliver", after=True),
    Point("relay: sent, not acknowledged", "relay", f"{RELAY}._acknowledged"),
    Point("relay: acknowledged, the checkpoint not moved", "relay", f"{RELAY}._acknowledged", after=True),
    Point("relay: the checkpoint is moved", "relay", f"{RELAY}._keep", after=True),
    Point("relay: before a watermark", "relay", f"{PUBLISHER}.watermarks"),
    Point("relay: the ends of the topic are read", RELAUNCHED, "infra.kafka.relay:last_records", after=True),
    Point("clock: after a tick", "clock", "services.kernel.clock:ClockRunner.tick", after=True),
    Point("rebalance: partitions are taken away", LEAVING, f"{MEMBER}.on_partitions_revoked"),
    Point("rebalance: partitions were given up", LEAVING, f"{MEMBER}.on_partitions_revoked", after=True),
    Point("rebalance: partitions came, no checkpoint is read", JOINING, f"{MEMBER}.on_partitions_assigned"),
    Point("rebalance: checkpoints are read, no place is found", JOINING, f"{MEMBER}._seek"),
    Point("rebalance: every partition has its place", JOINING, f"{MEMBER}._seek", after=True),
    Point("rebuild: rows are being written", REBUILD, f"{WRITER}.write", after=True),
    Point("rebuild: rows stand, indexes are made", REBUILD, f"{BUILDING}.finish"),
    Point("rebuild: writers are stopped, hashes are compared", REBUILD, f"{SWAP}.digests", after=True),
    Point("rebuild: swapped, not committed", REBUILD, f"{SWAP}.replace", after=True),
)
"""Where an instance must survive kill -9, by the role whose process passes there."""


def arm(path: Path, point: Point, passages: int) -> None:
    """Let the next process with this file die at the point, after so many passages."""
    draft = path.with_suffix(".draft")
    draft.write_text(f"{passages} {point.name}")
    draft.rename(path)


def install(path: Path) -> None:
    """Wrap every point of this process. Raises AttributeError for one that names nothing."""
    passed: dict[str, int] = {}

    def pass_by(name: str) -> None:
        if not path.exists():
            return
        allowed, _, armed = path.read_text().partition(" ")
        if armed != name:
            return
        passed[name] = passed.get(name, 0) + 1
        if passed[name] > int(allowed):
            path.unlink(missing_ok=True)
            os.kill(os.getpid(), signal.SIGKILL)

    for target in dict.fromkeys(point.target for point in POINTS):
        owner, name = resolve(target)
        here = [point for point in POINTS if point.target == target]
        before, after = ([point.name for point in here if point.after is late] for late in (False, True))
        setattr(owner, name, _wrapped(getattr(owner, name), pass_by, before, after))


def resolve(target: str) -> tuple[Any, str]:
    """Return who owns the function a target names, and its name there."""
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    return functools.reduce(getattr, owners, importlib.import_module(module)), name


def notice_soon() -> None:
    """Let the brokers notice a killed consumer after seconds, so that a run does not wait for it longer."""
    membership = importlib.import_module("infra.kafka.membership")
    made = membership.AIOKafkaConsumer

    def consumer(**options: Any) -> Any:
        return made(**options | {"session_timeout_ms": 3_000, "heartbeat_interval_ms": 500})

    membership.AIOKafkaConsumer = consumer  # type: ignore[attr-defined]


def _wrapped(function: Any, pass_by: Callable[[str], None], before: list[str], after: list[str]) -> Any:
    @functools.wraps(function)
    async def passing(*args: Any, **kwargs: Any) -> Any:
        for name in before:
            pass_by(name)
        result = await function(*args, **kwargs)
        for name in after:
            pass_by(name)
        return result

    return passing


if __name__ == "__main__":
    from infra.cli import main

    if CRASH_FILE in os.environ:
        install(Path(os.environ[CRASH_FILE]))
        notice_soon()
    main()
