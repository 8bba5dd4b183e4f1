"""Supervises the processes of one machine: children that die are restarted and say so; one Ctrl-C ends them all.

A child holds the reading end of a pipe whose writing end is the supervisor's: when the supervisor dies by any means,
the child reads the end of the file and stops by itself. Children have a session of their own, so a Ctrl-C in the
terminal reaches the supervisor alone and the order of stopping is ours.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

STOP_SECONDS: Final = 20.0
"""How long a child may drain before it is killed."""

RESTART_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses before the 1st, 2nd ... restart in a row; the last one repeats."""

STEADY_SECONDS: Final = 30.0
"""A child that lived this long starts its row anew."""

GIVES_UP: Final = 78
"""Exit status (EX_CONFIG) of a child that cannot go on and must not be restarted: it has said why."""


class ChildGaveUp(Exception):
    """A child ended for a reason no restart can mend."""


@dataclass
class Child:
    """One process with its roles."""

    roles: Sequence[str]
    process: asyncio.subprocess.Process | None = None
    deaths: int = 0
    pipe: int = field(default=-1)


class Supervisor:
    """Runs `commons child ROLE...` once per group of roles."""

    def __init__(self, groups: Sequence[Sequence[str]], environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        """Take the groups of roles, the children's environment and where to say what happens."""
        self._children = [Child(group) for group in groups]
        self._environ = dict(environ)
        self._say = say
        self._stopping = False

    @property
    def pids(self) -> list[int]:
        """The process ids of the living children."""
        return [child.process.pid for child in self._children if child.process and child.process.returncode is None]

    async def run(self) -> None:
        """Keep all children alive until cancelled or one gives up (ChildGaveUp); then stop them all."""
        try:
            async with asyncio.TaskGroup() as group:
                for child in self._children:
                    group.create_task(self._keep(child))
        except* ChildGaveUp as many:
            raise ChildGaveUp(str(many.exceptions[0])) from None
        finally:
            self._stopping = True
            await asyncio.shield(self._stop())

    async def _keep(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            status = await self._once(child)
            name = ", ".join(child.roles)
            if status == GIVES_UP:
                raise ChildGaveUp(f"the process for {name} cannot go on; it has said why")
            child.deaths = 0 if loop.time() - started > STEADY_SECONDS else child.deaths + 1
            pause = RESTART_SECONDS[min(child.deaths, len(RESTART_SECONDS)) - 1] if child.deaths else 0.0
            self._say(f"the process for {name} ended ({_words(status)}); starting it again in {pause:g} s")
            await asyncio.sleep(pause)

    async def _once(self, child: Child) -> int:
        reading, writing = os.pipe()
        try:
            child.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "infra.cli",
                "child",
                *child.roles,
                stdin=reading,
                env=self._environ,
                start_new_session=True,
            )
        finally:
            os.close(reading)
        child.pipe = writing
        try:
            return await child.process.wait()
        finally:
            if child.process.returncode is not None:
                os.close(writing)
                child.pipe = -1

    async def _stop(self) -> None:
        await asyncio.gather(*(self._end(child) for child in self._children))

    async def _end(self, child: Child) -> None:
        process = child.process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._say(f"the process for {', '.join(child.roles)} did not stop in {STOP_SECONDS:g} s and was killed")
            process.kill()
            await process.wait()
        if child.pipe >= 0:
            os.close(child.pipe)
            child.pipe = -1


def _words(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
