"""Where an operator learns of parked facts, and the commands that look at them and fold them again."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from events.parked import Parked
from infra.checks import following
from infra.cli.views import followers
from infra.platform import Platform, open_platform
from infra.serving import parked_warnings
from projections import balances
from tests import history
from tests.following import World
from tests.instance import Instance

MOST = 2**63 - 1


async def follow(platform: Platform, *entries: history.Entry) -> None:
    world = World(platform.stores, platform.view_store, history.History(platform.stores))
    await world.history.record(*entries)
    await platform.versions.make(balances.VIEW)
    async with world.following(balances.VIEW):
        await world.caught_up(balances.VIEW)


@pytest.fixture
def home(tmp_path: Path, database: str) -> Instance:
    return Instance(tmp_path / "home", extra={"COMMONS_DATABASE": database})


def choked(home: Instance, database: str) -> tuple[list[str], dict[str, str]]:
    """Let balances choke on a number; return the warnings and the doctor's verdicts."""

    async def main() -> tuple[list[str], dict[str, str]]:
        async with open_platform(home.settings, database) as platform:
            amounts = (1, MOST, MOST, 3)
            await follow(platform, *(history.posted("a", "b", amount, n) for n, amount in enumerate(amounts)))
            checks = [check async for check in following.views(platform)]
            rows = await followers(platform)
            assert {row.follower: row.parked for row in rows if row.parked} == {balances.VIEW.follower: 3}
            return list(await parked_warnings(platform)), {check.name: check.verdict for check in checks}

    return asyncio.run(main())


def told(home: Instance, *command: str, status: int = 0) -> Any:
    done = home.commons(*command, "--json")
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


@pytest.mark.soak
def test_parked_facts_are_named_by_health_doctor_lag_and_commands_until_they_are_folded(
    home: Instance, database: str
) -> None:
    warnings, verdicts = choked(home, database)
    assert [("balances" in each, "from position 2 on" in each) for each in warnings] == [(True, True)]
    assert verdicts["view balances"] == "broken"
    (alarm,) = told(home, "views", "parked")["alarms"]
    assert (alarm["position"], alarm["stream"], alarm["error"][:10]) == (2, "book/COMPUTE", "DataError:")
    (report,) = told(home, "views", "repair", "balances", status=1)["views"]
    assert (report["folded"], report["parked"], report["alarms"][0]["position"]) == (0, 3, 2)


@pytest.mark.soak
def test_a_check_that_finds_drift_names_the_row_and_ends_with_status_1(home: Instance, database: str) -> None:
    async def tamper() -> None:
        async with open_platform(home.settings, database) as platform:
            await follow(platform, history.posted("a", "b", 5))
            async with platform.view_store.writing(balances.VIEW) as writer:
                await writer.write(balances.ACCOUNTS, [balances.Account("b", balance=6)])
                await writer.park([Parked(writer.follower, "treasury", 1, "treasury", "s", "t", "why", first=True)])
                await writer.release(await writer.parked(("", 0), 9))

    asyncio.run(tamper())
    done = home.commons("rebuild", "balances", "--check")
    assert done.returncode == 1, done.stderr
    assert "DIFFERENT" in done.stdout
    assert "live now" not in done.stdout
    assert "balances.accounts: live Account(account='b'" in done.stderr
    assert "balance=6" in done.stderr
