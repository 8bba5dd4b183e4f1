"""The agent at work: it looks at the machine, writes readings, beats, and sends, each at its own pace.

Nothing waits for the network: readings are on disk before anything is sent, and an outage of any length only makes
the spool longer. Everything may be killed at any moment; the next start goes on from the spool, the cursor, the mark.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from events.values import HOUR_MS
from infra.agent.books import Books
from infra.agent.disk import write_whole
from infra.agent.drift import Drift
from infra.agent.energy import Energy, Rapl
from infra.agent.gpus import Gpus
from infra.agent.heartbeats import Heartbeats
from infra.agent.home import AgentHome
from infra.agent.leases import lease_of, write_leases
from infra.agent.line import Line, look_at_line
from infra.agent.link import Away, Clock, Link, LinkRefused
from infra.agent.sampling import Sample, Sampler
from infra.agent.sender import Sender
from infra.agent.serving import unserved
from infra.agent.status import Status, status_path
from infra.agent.store import Store
from infra.agent.troubles import Troubles

LAST_WORDS_SECONDS: Final = 8.0
"""How long a stop may take to bring the last batch to the server; the spool keeps it in any case."""

LEASES_SINCE_MS: Final = 2 * HOUR_MS
"""Leases that ended longer ago have their readings in the spool, or never will."""

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often things are done; tests are in a hurry."""

    slice_ms: int
    tick_seconds: float = 1.0
    poll_seconds: float = 5.0
    pause_seconds: float = 2.0
    patience_seconds: float = 2.0


class Agent:
    """One node's agent. `say` hears what people should know; `line` looks at the machine's way out."""

    def __init__(
        self,
        home: AgentHome,
        server: str,
        gpus: Gpus,
        clock: Clock,
        pace: Pace,
        spool_bytes: int,
        say: Callable[[str], None],
        line: Callable[[], Line] = look_at_line,
    ) -> None:
        """Put the parts together; the home must be locked by the caller."""
        self._home, self._clock, self._pace, self._gpus = home, clock, pace, gpus
        self.identity, self._started_ms = home.identity(), clock.now_ms()
        self.troubles, self.drift = Troubles(say), Drift()
        self.books = Books(home, pace.slice_ms, spool_bytes, self._started_ms, self.troubles)
        patience = pace.patience_seconds
        self.link = Link(server, self.identity.public_url, home.key, clock, self._observe, patience_seconds=patience)
        self.beats = Heartbeats(home.path / "receipts", home.key, self.identity.genesis, self.link, self.troubles)
        books = self.books
        self.sender = Sender(books.spool, books.cursor, books.cursor_path, home.key, self.link, self.troubles)
        self._energy = Energy(Rapl())
        self._store = Store(home.path)
        self._sampler = Sampler(home.path / "samples", gpus, self._energy, clock, self._store, line)
        self.sample: Sample | None = None

    async def run(self, stop: asyncio.Event, boot_ms: int) -> None:
        """Work until `stop` is set; then write what is over, and try to bring it to the server.

        `boot_ms` is when the machine started.
        """
        self.books.resume(self._clock.now_ms(), boot_ms)
        tick, poll = self._pace.tick_seconds, self._pace.poll_seconds
        works = (("disk", self._tick, tick), ("server", self._poll, poll), ("server", self._beat, tick))
        tasks = [asyncio.create_task(self._often(*each)) for each in (*works, ("server", self._send, tick))]
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stopping, *tasks):
                task.cancel()
            ends = await asyncio.gather(stopping, *tasks, return_exceptions=True)
            await self._end()
        for end in ends:
            if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
                raise end

    def energy_source(self) -> str:
        """Say where the figure for energy comes from; GPUs are asked once for it."""
        self._energy.add(self._gpus.sample(), self._clock.monotonic_ms())
        return self._energy.source

    async def _often(self, subject: str, work: Callable[[], Awaitable[None]], seconds: float) -> None:
        """Do a piece of work again and again, more slowly while it fails."""
        while True:
            done = await self._tried(subject, work)
            await asyncio.sleep(seconds if done else max(seconds, self._pace.pause_seconds))

    async def _tried(self, subject: str, work: Callable[[], Awaitable[None]]) -> bool:
        """Do a piece of work; what the server or the disk refuses is said, and False returned."""
        try:
            await work()
        except (Away, LinkRefused) as error:
            self.troubles.set("server", str(error))
        except OSError as error:
            self.troubles.set(subject, f"{error.strerror or error} {error.filename or ''}".strip())
        else:
            return True
        return False

    async def _tick(self) -> None:
        """Look at the machine and its clock, and write the readings that are over."""
        now = self._clock.now_ms()
        self.drift.look(now, self._clock.monotonic_ms())
        self.troubles.set("clock", self.drift.warning)
        self.sample = self._sampler.take()
        self.books.meter.note(self._down(self.sample), now)
        if self.drift.trusted:
            self.books.advance(now)
            self.books.seal(now, self.beats.hours())
            self.books.tidy(now)
            self.books.note_energy(self._energy.readings(now))
        self.books.keep_mark()
        self._keep_status()
        self._sampler.keep(self.sample)
        self.troubles.set("disk", None)

    def _down(self, sample: Sample) -> Iterator[str]:
        """Yield the devices and leases that are not served at this moment."""
        yield from {*self.identity.gpus} - {gpu.device for gpu in sample.gpus}
        yield from unserved(self.books.meter.leases, self._store, line_up=bool(sample.line))

    async def _poll(self) -> None:
        """Ask which leases this node has to serve."""
        rows = await self.link.leases(self.identity.node, self._clock.now_ms() - LEASES_SINCE_MS)
        found = [lease_of(row, self.identity.cpu_device) for row in rows]
        leases = tuple(lease for lease in found if lease is not None)
        if leases != self.books.meter.leases:
            self.books.meter.leases = leases
            write_leases(self._home.path / "leases.json", leases)
        self.troubles.set("server", None)

    async def _beat(self) -> None:
        """Send this minute's heartbeat, and commit to hours that are sealed."""
        if await self.beats.beat(self._clock.now_ms(), self.books.spool):
            self.beats.forget_old(self._clock.now_ms())
        for hour, state in sorted(self.books.cursor.hours.items()):
            if state.sealed is not None and not state.told:
                await self.beats.tell(hour, self.books.cursor)
                self.books.cursor.save(self.books.cursor_path)

    async def _send(self) -> None:
        """Send what is not acknowledged; signed by a clock that can be trusted only."""
        while self.drift.trusted and await self.sender.send(self._clock.now_ms()):
            continue

    async def _end(self) -> None:
        """Flush: the slice under way becomes a reading, and the last batch is tried once."""
        try:
            now = self._clock.now_ms()
            self.drift.look(now, self._clock.monotonic_ms())
            if self.drift.trusted:
                self.books.advance(now)  # it may have slept since the last tick
                self.books.write(now, flush=True)
            self.books.keep_mark()
            await asyncio.wait_for(self._send(), LAST_WORDS_SECONDS)
            self._keep_status()
        except (Away, LinkRefused, TimeoutError, OSError) as error:
            _LOG.warning("the last batch waits in the spool: %s", error)
        await self.link.close()
        self._gpus.close()

    def _observe(self, sent_ms: int, received_ms: int, date_ms: int) -> None:
        self.drift.observe(sent_ms, received_ms, date_ms, self._clock.monotonic_ms())

    def _keep_status(self) -> None:
        books = self.books
        status = Status(
            self.identity.node,
            self.identity.owner,
            self.identity.public_url,
            self._started_ms,
            self._clock.now_ms(),
            self.drift.offset_ms,
            self.drift.trusted,
            self._energy.source,
            tuple(lease.lease for lease in books.meter.leases if lease.end_ms > self._clock.now_ms()),
            self.beats.last_minute,
            len(books.spool.hours()),
            books.spool.size(),
            self.sender.unacknowledged(),
            dict(self.troubles.now),
            self.sample,
            books.meter.standing(self._clock.now_ms()),
        )
        write_whole(status_path(self._home.path), msgspec.json.encode(status), durable=False)
