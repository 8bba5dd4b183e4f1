"""A steward's side of a storage challenge: draw a seed, ask the node, and record its answer or that it gave none."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from infra.api import ApiRefused, HttpApi
from infra.keys import SigningKey
from services.metering.storage import ANSWER_MS, Question, answer_sha256

PATH: Final = "/v1/metering/storage-challenges"
LOOK_SECONDS: Final = 0.2
AGAIN_SECONDS: Final = 1.0
LATE_MS: Final = 500
"""An answer that comes less than this before the time is over is not waited for: it would count as late."""

UNUSABLE: Final = frozenset({400, 401, 413, 422})
"""How the instance answers where it cannot read or trust the node's answer."""

GetAnswer = Callable[[Sequence[str]], Awaitable[str]]
"""`get(arguments)`: ask the node with the arguments of `commons agent prove`; waits for its JWS as long as it takes."""


class ChallengeRefused(Exception):
    """A challenge cannot be made; the message says why."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One challenge: which lease of which node, from which seed, since when."""

    lease: str
    node: str
    root: str
    challenge: str
    seed: str
    start_ms: int

    def arguments(self) -> tuple[str, ...]:
        """Return what `commons agent prove` has to be told."""
        asked = (("--challenge", self.challenge), ("--seed", self.seed), ("--start-ms", str(self.start_ms)))
        return (self.lease, *(text for pair in (*asked, ("--root", self.root)) for text in pair))


async def draw(api: HttpApi, lease: str, now_ms: Callable[[], int]) -> Draw:
    """Draw a challenge of a storage lease, which begins now. Raises ChallengeRefused, ApiRefused."""
    found = await api.view(f"/v1/views/usage/leases/{lease}")
    if not found.get("content_root"):
        raise ChallengeRefused(f"the lease {lease} keeps no content: only storage leases that name it are challenged")
    root, node = str(found["content_root"]), str(found["node"])
    return Draw(lease, node, root, secrets.token_hex(16), secrets.token_hex(32), now_ms())


async def carry_out(
    api: HttpApi, key: SigningKey, drawn: Draw, get: GetAnswer, now_ms: Callable[[], int]
) -> Mapping[str, Any]:
    """Ask the node and record what came of it; return the instance's answer, with `passed`. Raises ApiRefused."""
    answer = await _answer(drawn, get, now_ms)
    if answer is not None:
        try:
            return await _record(api, key, drawn, answer, now_ms())
        except ApiRefused as error:
            if error.status not in UNUSABLE:
                raise
    # What cannot be used is no answer; and the node has its whole time before it gave none.
    await asyncio.sleep(max(0, drawn.start_ms + ANSWER_MS - now_ms()) / 1_000)
    return await _record(api, key, drawn, None, max(now_ms(), drawn.start_ms + ANSWER_MS))


async def _answer(drawn: Draw, get: GetAnswer, now_ms: Callable[[], int]) -> str | None:
    left_ms = drawn.start_ms + ANSWER_MS - LATE_MS - now_ms()
    try:
        return (await asyncio.wait_for(get(drawn.arguments()), left_ms / 1_000)).strip() or None
    except TimeoutError:
        return None


async def _record(api: HttpApi, key: SigningKey, drawn: Draw, node_jws: str | None, end_ms: int) -> Mapping[str, Any]:
    question = Question(
        api.genesis,
        drawn.challenge,
        drawn.node,
        drawn.lease,
        drawn.seed,
        drawn.start_ms,
        max(end_ms, drawn.start_ms + 1),
        None if node_jws is None else answer_sha256(node_jws),
    )
    body = {"challenger_jws": key.jws(msgspec.json.encode(question)), "node_jws": node_jws}
    step = f"{drawn.challenge}-{'answer' if node_jws else 'none'}"
    return await api.command(key, PATH, body, step)


def by_command(command: Sequence[str]) -> GetAnswer:
    """Return a way to ask: run a command with the arguments after it, take the last word it prints.

    One that prints nothing could not reach the node, so it is run again. Raises ChallengeRefused if there is no such.
    """

    async def get(arguments: Sequence[str]) -> str:
        while not (words := await _printed([*command, *arguments])):  # noqa: ASYNC110 - a node has no event to wait for
            await asyncio.sleep(AGAIN_SECONDS)
        return words[-1]

    return get


async def _printed(command: Sequence[str]) -> Sequence[str]:
    try:
        running = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    except OSError as error:
        raise ChallengeRefused(f"{command[0]} cannot be run: {error.strerror}") from error
    try:
        printed, _ = await running.communicate()
    finally:
        if running.returncode is None:
            running.kill()
            await running.wait()
    return printed.decode(errors="replace").split()


def by_file(path: Path) -> GetAnswer:
    """Return a way to ask: wait until someone has put the answer, a whole line, into a file."""

    async def get(_arguments: Sequence[str]) -> str:
        while not (line := _whole_line(path)):  # noqa: ASYNC110 - a file has no event to wait for
            await asyncio.sleep(LOOK_SECONDS)
        return line

    return get


def _whole_line(path: Path) -> str:
    text = path.read_text(errors="replace") if path.exists() else ""
    return text if text.endswith("\n") else ""
