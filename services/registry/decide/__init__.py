"""The registry's rules, one file per group of commands, and the table from command to rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.kernel.decider import Command, Context, Decision
from services.registry import commands
from services.registry.decide.api_keys import issue_api_key, revoke_api_key
from services.registry.decide.disputes import reinstate_nodes, retire_node
from services.registry.decide.founding import found_community
from services.registry.decide.lifecycle import note_challenges, reinstate_node, suspend_node
from services.registry.decide.members import grant_role, register_member, revoke_role, rotate_key
from services.registry.decide.profiles import erase_subject, seal_profile
from services.registry.decide.registration import register_node
from services.registry.decide.statements import label_node, state_window
from services.registry.decide.tables import adopt_performance_table
from services.registry.decide.wallets import link_key, link_wallet, rotate_wallet, unlink_wallet
from services.registry.state import Directory

DECIDE: Final[Mapping[type[Command], Callable[[Any, Directory, Context], Decision]]] = {
    commands.FoundCommunity: found_community,
    commands.RegisterMember: register_member,
    commands.GrantRole: grant_role,
    commands.RevokeRole: revoke_role,
    commands.RotateKey: rotate_key,
    commands.LinkKey: link_key,
    commands.LinkWallet: link_wallet,
    commands.RotateWallet: rotate_wallet,
    commands.UnlinkWallet: unlink_wallet,
    commands.IssueApiKey: issue_api_key,
    commands.RevokeApiKey: revoke_api_key,
    commands.SealProfile: seal_profile,
    commands.EraseSubject: erase_subject,
    commands.RegisterNode: register_node,
    commands.NoteChallenges: note_challenges,
    commands.SuspendNode: suspend_node,
    commands.ReinstateNode: reinstate_node,
    commands.ReinstateNodes: reinstate_nodes,
    commands.RetireNode: retire_node,
    commands.StateWindow: state_window,
    commands.LabelNode: label_node,
    commands.AdoptPerformanceTable: adopt_performance_table,
}
