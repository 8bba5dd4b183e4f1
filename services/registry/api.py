"""Routes of the registry. No rule stands here; signatures inside a body are checked here, before the lock."""

from __future__ import annotations

import msgspec

from services.kernel.errors import AuthenticationFailed, InvalidField
from services.kernel.jws import parse_jws, unb64
from services.kernel.routes import Caller, CommandRoute, Route
from services.registry import bodies, commands
from services.registry.keys import key_problem, possession_payload


def routes() -> tuple[Route, ...]:
    """Return everything the registry answers to."""
    return (*_member_routes(), *_node_routes(), *_suspension_routes(), *_steward_routes())


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
            lambda body, caller: commands.RegisterMember(
                body.handle, body.kind, body.key.key(), body.guild, signed(caller)
            ),
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
    """Return the caller's own JWS; the edge supplied it, or the route is declared wrongly."""
    assert caller.authorization is not None
    return caller.authorization


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
    )


def rotate_key(body: bodies.RotateKeyBody, caller: Caller) -> commands.RotateKey:
    """Check that somebody holds the new key. Raises InvalidField, AuthenticationFailed."""
    assert caller.kid is not None
    key = body.key.key()
    problem = key_problem(key)
    if problem is not None:
        raise InvalidField(f"key: {problem}", field="key")
    possession = parse_jws(body.possession)
    statement = possession_payload(caller.directory.genesis_sha256, caller.actor, caller.kid, key.kid)
    if possession.kid != key.kid or possession.payload != statement:
        raise AuthenticationFailed("the new key must sign the statement of possession", kid=key.kid)
    possession.verify(unb64(key.x))
    return commands.RotateKey(caller.kid, key, signed(caller), body.possession)


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
