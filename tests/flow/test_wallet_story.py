"""A newcomer's story on a real instance: a wallet, a member, a session, this machine registered by the wallet."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import httpx

from infra.wallet import Wallet, WalletSession, new_wallet
from services.kernel.directory import Directory
from services.kernel.typed_commands import signer_of, wallet_domain
from services.registry.bodies import RegisterNodeBody
from services.registry.genesis import sha256
from tests.caller import Caller
from tests.instance import Instance
from tests.wallet_edge import proof


def register(serving: Instance, mine: Wallet, domain: dict[str, object], genesis: str) -> None:
    steward = Caller(serving.url, serving.key("steward"), genesis)
    body = {"handle": "willow", "kind": "human", "wallet": proof(mine, domain, mine.member)}
    joined = steward.authorized("RegisterMember", "/v1/registry/members/register", body)
    assert joined.json()["member"] == mine.member, joined.text
    granted = steward.authorized("GrantRole", "/v1/registry/roles/grant", {"member": mine.member, "role": "provider"})
    assert granted.status_code == 200, granted.text
    steward.close()


def agent(serving: Instance, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = serving.environ | {"COMMONS_AGENT_HOME": str(home), "COMMONS_AGENT_SERVER": serving.url}
    command = [sys.executable, "-m", "infra.cli", "agent", "register", "--zone", "FR", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)


async def lend(serving: Instance, mine: Wallet, domain: dict[str, object], body: dict[str, object]) -> tuple[str, str]:
    """Sign in, replay it in vain, register a node; return the token and the node's position."""
    async with WalletSession(serving.url, mine, domain) as session:
        message = await session.message()
        token = (await session.sign_in(message)).json()["token"]
        again = await session.sign_in(message)
        assert again.status_code == 401
        assert "used before" in again.json()["detail"]
        response = await session.authorized("/v1/registry/nodes/register", "RegisterNode", RegisterNodeBody, body)
        assert response.status_code == 200, response.text
        return token, response.json()["first"]


def test_a_newcomer_with_nothing_but_a_wallet_lends_a_node(
    tmp_path: Path, deployment: Callable[[Path], AbstractContextManager[Instance]]
) -> None:
    mine = new_wallet()
    with deployment(tmp_path / "home") as serving:
        document = serving.found()
        domain = wallet_domain(Directory(community=document, genesis_sha256=sha256(document)))
        register(serving, mine, domain, sha256(document))
        refused = agent(serving, tmp_path / "agent")
        assert "is not registered: name the owner's key" in refused.stderr
        printed = json.loads(agent(serving, tmp_path / "agent", "--print").stdout)
        token, position = asyncio.run(lend(serving, mine, domain, printed["body"]))
        taken = json.loads(agent(serving, tmp_path / "agent", "--json").stdout)
        assert (taken["node"], taken["owner"], taken["status"]) == (printed["node"], mine.member, "active")
        path = f"/v1/views/audit_trail/registry/{position}"
        record = httpx.get(serving.url + path, headers={"commons-at-least": f"registry={position}"}, trust_env=False)
        assert signer_of(json.loads(record.json()["record"])["data"]["authorization"]) == mine.address, record.text
        logs = [path for path in serving.home.rglob("*") if "log" in path.name and path.is_file()]
        written = [serving.log(), *(path.read_text(errors="replace") for path in logs)]
        assert not [text for text in written if token.rpartition(".")[2] in text]
