"""An agent in a process of its own, with one GPU that is not there: what tests kill.

Run as `python -m tests.agent_child HOME SERVER SLICE_SECONDS FILE_BYTES`; everything but the GPU is as in
`commons agent run`. No file may grow beyond FILE_BYTES (0: any size), which is what a full disk is like.
"""

from __future__ import annotations

import asyncio
import resource
import signal
import sys
from pathlib import Path

from infra.agent.clock import SystemClock, boot_ms
from infra.agent.home import AgentHome
from infra.agent.run import Agent, Pace
from tests.agent_given import HandGpus


def said(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


async def main(path: str, server: str, slice_seconds: str, file_bytes: str) -> None:
    if int(file_bytes):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(file_bytes), resource.RLIM_INFINITY))
    home = AgentHome(Path(path))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    pace = Pace(int(slice_seconds) * 1_000, 0.2, 0.5, 0.2, 0.2)
    gpus = HandGpus(home.identity().gpus[0])
    with home.locked():
        agent = Agent(home, server, gpus, SystemClock(), pace, 2**24, said)
        await agent.run(stop, boot_ms())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
