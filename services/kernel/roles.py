"""Who may do what: one table from permission to roles. Default deny: what is not listed is nobody's.

`ANYONE` needs no signature; `MEMBER` is every registered member, `NODE` every node that signs with its own key.
Whether a member may touch *this* node or project is a rule of the service, decided under the lock.
"""

from __future__ import annotations

from typing import Final, Literal

from services.kernel.directory import Directory

Permission = Literal[
    "public",
    "views.read",
    "members.register",
    "roles.grant",
    "keys.rotate",
    "wallets.manage",
    "api-keys.manage",
    "profiles.manage",
    "profiles.read",
    "nodes.register",
    "nodes.manage",
    "nodes.label",
    "nodes.oversee",
    "tables.adopt",
    "leases.manage",
    "readings.record",
    "challenges.record",
    "usage.dispute",
    "disputes.end",
    "backfills.manage",
    "accounts.open",
    "transactions.post",
]

ANYONE: Final = "anyone"
MEMBER: Final = "member"
NODE: Final = "node"

ROLES: Final[dict[Permission, frozenset[str]]] = {
    "public": frozenset({ANYONE}),
    "views.read": frozenset({MEMBER, NODE}),
    "members.register": frozenset({"steward", "operator"}),
    "roles.grant": frozenset({"steward", "operator"}),
    "keys.rotate": frozenset({MEMBER, NODE}),
    "wallets.manage": frozenset({MEMBER}),
    "api-keys.manage": frozenset({MEMBER}),
    "profiles.manage": frozenset({MEMBER}),
    "profiles.read": frozenset({MEMBER}),
    "nodes.register": frozenset({"provider"}),
    "nodes.manage": frozenset({"provider", "steward"}),
    "nodes.label": frozenset({"provider"}),
    "nodes.oversee": frozenset({"steward"}),
    "tables.adopt": frozenset({"steward", "operator"}),
    "leases.manage": frozenset({"contributor"}),
    "readings.record": frozenset({NODE}),
    "challenges.record": frozenset({"steward"}),
    "usage.dispute": frozenset({"steward", "contributor"}),
    "disputes.end": frozenset({"steward"}),
    "backfills.manage": frozenset({"operator"}),
    "accounts.open": frozenset({MEMBER}),
    "transactions.post": frozenset({MEMBER}),
}


def permits(directory: Directory, actor: str | None, permission: Permission) -> bool:
    """Tell whether `actor` (None: nobody signed) may use routes of this permission."""
    allowed = ROLES.get(permission, frozenset())
    if ANYONE in allowed:
        return True
    if permission == "views.read" and (directory.community is None or directory.community.public_views):
        return True
    if actor is None:
        return False
    if actor.startswith("node/"):
        return NODE in allowed
    member = directory.members.get(actor)
    return member is not None and (MEMBER in allowed or bool(allowed & member.roles))
