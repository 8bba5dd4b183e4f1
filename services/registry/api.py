"""Routes of the registry. No rule stands here; signatures inside a body are checked here, before the lock."""

from __future__ import annotations

import msgspec

from events.values import member_id
from services.kernel.errors import AuthenticationFailed, InvalidField
from services.kernel.ethereum import is_address
from services.kernel.jws import parse_jws
from services.kernel.routes import Caller, CommandRoute, Route
from services.registry import bodies, commands
from services.registry.possession import held_key, held_wallet


def routes() -> tuple[Route, ...]:
    """Return everything the registry answers to."""
    return (*_member_routes(), *_wallet_routes(), *_node_routes(), *_suspension_routes(), *_steward_routes())


def _member_routes() -> tuple[CommandRoute, ...]:
    return (
        CommandRoute(
            "RotateKey",
            "/v1/registry/keys/rotate",
            "keys.rotate",
            bodies.RotateKeyBody,
            rotate_key,
            own_signature=True,
            summary="Replace your own key; signed by the old one, with the new one's proof of possession.",
        ),
        CommandRoute(
            "IssueApiKey",
            "/v1/registry/api-keys/issue",
            "api-keys.manage",
            bodies.IssueApiKeyBody,
            lambda body, _caller: commands.IssueApiKey(body.key_id, body.secret_sha256, body.label, body.expires_ms),
            summary="Let an API key read for you; keep its secret, send the hash.",
        ),
        CommandRoute(
            "RevokeApiKey",
            "/v1/registry/api-keys/revoke",
            "api-keys.manage",
            bodies.RevokeApiKeyBody,
            lambda body, _caller: commands.RevokeApiKey(body.key_id),
            summary="End one of your API keys.",
        ),
    )


def _wallet_routes() -> tuple[CommandRoute, ...]:
    return (
        CommandRoute(
            "LinkKey",
            "/v1/registry/keys/link",
            "wallets.manage",
            bodies.LinkKeyBody,
            link_key,
            own_signature=True,
            summary="Let a first Ed25519 key sign for you beside your wallet; signed by it, with the key's possession.",
        ),
        CommandRoute(
            "LinkWallet",
            "/v1/registry/wallets/link",
            "wallets.manage",
            bodies.LinkWalletBody,
            lambda body, caller: commands.LinkWallet(held_wallet(body.wallet, caller, caller.actor), signed(caller)),
            own_signature=True,
            summary="Let a wallet sign for you beside your key; signed by your key, with the wallet's possession.",
        ),
        CommandRoute(
            "RotateWallet",
            "/v1/registry/wallets/rotate",
            "wallets.manage",
            bodies.LinkWalletBody,
            rotate_wallet,
            own_signature=True,
            summary="Let another wallet take your wallet's place; the old one signs, the new one shows possession.",
        ),
        CommandRoute(
            "UnlinkWallet",
            "/v1/registry/wallets/unlink",
            "wallets.manage",
            bodies.UnlinkWalletBody,
            lambda body, caller: commands.UnlinkWallet(body.address, signed(caller)),
            own_signature=True,
            summary="Let your wallet sign no longer; your key remains.",
        ),
    )


def _node_routes() -> tuple[CommandRoute, ...]:
    return (
        CommandRoute(
            "RegisterNode",
            "/v1/registry/nodes/register",
            "nodes.register",
            bodies.RegisterNodeBody,
            register_node,
            own_signature=True,
            summary="Lend a node to the pool.",
        ),
        CommandRoute(
            "RetireNode",
            "/v1/registry/nodes/retire",
            "nodes.manage",
            bodies.NodeBody,
            lambda body, caller: commands.RetireNode(body.node, signed(caller)),
            own_signature=True,
            summary="Take your node away for good.",
        ),
        CommandRoute(
            "StateWindow",
            "/v1/registry/nodes/window",
            "nodes.manage",
            bodies.StateWindowBody,
            lambda body, caller: commands.StateWindow(body.node, body.window.window(), signed(caller)),
            own_signature=True,
            summary="State when your node is available.",
        ),
        CommandRoute(
            "LabelNode",
            "/v1/registry/nodes/label",
            "nodes.label",
            bodies.LabelNodeBody,
            lambda body, _caller: commands.LabelNode(body.node, body.label),
            api_key=True,
            summary="Change your node's public label.",
        ),
    )


def _suspension_routes() -> tuple[CommandRoute, ...]:
    return (
        CommandRoute(
            "SuspendNode",
            "/v1/registry/nodes/suspend",
            "nodes.manage",
            bodies.SuspensionBody,
            lambda body, caller: commands.SuspendNode(body.node, body.cause, signed(caller)),
            own_signature=True,
            summary="Take a node out of placement for a while.",
        ),
        CommandRoute(
            "ReinstateNode",
            "/v1/registry/nodes/reinstate",
            "nodes.manage",
            bodies.SuspensionBody,
            lambda body, caller: commands.ReinstateNode(body.node, body.cause, signed(caller)),
            own_signature=True,
            summary="End a suspension.",
        ),
    )


def _steward_routes() -> tuple[CommandRoute, ...]:
    return (
        CommandRoute(
            "RegisterMember",
            "/v1/registry/members/register",
            "members.register",
            bodies.RegisterMemberBody,
            register_member,
            own_signature=True,
            summary="Make a member known.",
        ),
        CommandRoute(
            "GrantRole",
            "/v1/registry/roles/grant",
            "roles.grant",
            bodies.RoleBody,
            lambda body, caller: commands.GrantRole(body.member, body.role, signed(caller)),
            own_signature=True,
            summary="Give a member a role.",
        ),
        CommandRoute(
            "RevokeRole",
            "/v1/registry/roles/revoke",
            "roles.grant",
            bodies.RoleBody,
            lambda body, caller: commands.RevokeRole(body.member, body.role, signed(caller)),
            own_signature=True,
            summary="Take a role from a member.",
        ),
        CommandRoute(
            "ReinstateNodes",
            "/v1/registry/devices/settle",
            "nodes.oversee",
            bodies.SettleDisputeBody,
            reinstate_nodes,
            own_signature=True,
            summary="End the dispute over a device by its claimants' answers.",
        ),
        CommandRoute(
            "AdoptPerformanceTable",
            "/v1/registry/tables/adopt",
            "tables.adopt",
            bodies.AdoptTableBody,
            lambda body, caller: commands.AdoptPerformanceTable(body.table(), body.effective_ms, signed(caller)),
            own_signature=True,
            summary="Put the next version of a performance table in force.",
        ),
    )


def signed(caller: Caller) -> str:
    """Return the caller's own signature as text; the edge supplied it, or the route is declared wrongly."""
    assert caller.authorization is not None
    return caller.authorization


def register_member(body: bodies.RegisterMemberBody, caller: Caller) -> commands.RegisterMember:
    """Make the command of a new member; a wallet must have signed for it itself. Raises AuthenticationFailed."""
    wallet = None
    if body.wallet is not None and is_address(body.wallet.address):
        wallet = held_wallet(body.wallet, caller, member_id(bytes.fromhex(body.wallet.address[2:])))
    elif body.wallet is not None:
        raise InvalidField("wallet: the address is not in its EIP-55 spelling", field="wallet")
    key = body.key.key() if body.key else None
    return commands.RegisterMember(body.handle, body.kind, key, body.guild, signed(caller), wallet)


def rotate_wallet(body: bodies.LinkWalletBody, caller: Caller) -> commands.RotateWallet:
    """Check that the old wallet signed and that somebody holds the new one. Raises AuthenticationFailed."""
    old = caller.signer
    if old is None or old not in caller.directory.wallets:
        raise AuthenticationFailed("a wallet is replaced by its own signature (EIP-712)")
    return commands.RotateWallet(old, held_wallet(body.wallet, caller, caller.actor, old), signed(caller))


def register_node(body: bodies.RegisterNodeBody, caller: Caller) -> commands.RegisterNode:
    """Make the command of a registration."""
    return commands.RegisterNode(
        key=body.key.key(),
        zone=body.zone,
        devices=body.pooled(),
        cpu_milli=body.cpu_milli,
        memory_mib=body.memory_mib,
        window=body.window.window(),
        security_baseline=body.security_baseline,
        no_sensitive_data=body.no_sensitive_data,
        authorization=signed(caller),
        storage_bytes=body.storage_bytes,
        bandwidth_bits_per_second=body.bandwidth_bits_per_second,
        pue_milli=body.pue_milli,
        label=body.label,
        embodied=body.embodied.stated() if body.embodied else None,
    )


def rotate_key(body: bodies.RotateKeyBody, caller: Caller) -> commands.RotateKey:
    """Check that somebody holds the new key. Raises InvalidField, AuthenticationFailed."""
    old_kid = caller.signer or caller.kid
    assert old_kid is not None
    return commands.RotateKey(old_kid, held_key(body, caller, old_kid), signed(caller), body.possession)


def link_key(body: bodies.LinkKeyBody, caller: Caller) -> commands.LinkKey:
    """Check that the wallet signed and that somebody holds the key. Raises InvalidField, AuthenticationFailed."""
    if caller.signer is None or caller.signer not in caller.directory.wallets:
        raise AuthenticationFailed("a first key is linked by your wallet's signature (EIP-712)")
    return commands.LinkKey(held_key(body, caller), signed(caller), body.possession)


class SignedAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a node signs to answer the challenge that settles a dispute; milliseconds UTC, the digest in hex."""

    challenge: str
    device: str
    answered_at_ms: int
    digest: str


def reinstate_nodes(body: bodies.SettleDisputeBody, caller: Caller) -> commands.ReinstateNodes:
    """Check each answer against its node's living key. Raises AuthenticationFailed."""
    answers = tuple(_answer(text, caller) for text in body.answers)
    return commands.ReinstateNodes(body.device, answers, signed(caller))


def _answer(text: str, caller: Caller) -> commands.Answer:
    jws = parse_jws(text)
    key = caller.directory.keys.get(jws.kid)
    if key is None or not key.subject.startswith("node/"):
        raise AuthenticationFailed("an answer is not signed by a node's living key", kid=jws.kid)
    jws.verify(key.raw)
    try:
        answer = msgspec.json.decode(jws.payload, type=SignedAnswer)
    except msgspec.MsgspecError as error:
        raise InvalidField(f"answers: {error}", field="answers") from error
    return commands.Answer(key.subject, answer.device, answer.challenge, answer.answered_at_ms, answer.digest, jws.text)
