"""Wallets that sign for a member, and a key beside one. Signatures and possession were checked before the lock."""

from __future__ import annotations

from events.registry import KeyLinked, WalletLinked, WalletRotated, WalletUnlinked
from services.kernel.decider import Context, Decision, Emit
from services.registry.commands import LinkKey, LinkWallet, RotateWallet, UnlinkWallet
from services.registry.decide.guards import known_member
from services.registry.errors import KeyLinkedAlready, KeyNotLiving, LastKey, WalletLinkedAlready
from services.registry.keys import fresh_key, fresh_wallet
from services.registry.state import Directory


def link_key(command: LinkKey, state: Directory, context: Context) -> Decision:
    """Link a first Ed25519 key beside a wallet. Raises UnknownMember, KeyLinkedAlready, InvalidField, KeyInUse."""
    member = known_member(state, context.actor)
    if member.kid != member.wallet:
        raise KeyLinkedAlready("rotate your key instead", member=member.member, kid=member.kid)
    fresh_key(command.key, state)
    fact = KeyLinked(member.member, command.key, command.authorization, command.possession)
    return Decision((Emit(member.member, fact),), {"member": member.member, "kid": command.key.kid})


def link_wallet(command: LinkWallet, state: Directory, context: Context) -> Decision:
    """Link a first wallet. Raises UnknownMember, WalletLinkedAlready, InvalidField, KeyInUse."""
    member = known_member(state, context.actor)
    if member.wallet is not None:
        raise WalletLinkedAlready("replace your wallet instead", member=member.member, address=member.wallet)
    fresh_wallet(command.wallet.address, state)
    fact = WalletLinked(member.member, command.wallet, command.authorization)
    return Decision((Emit(member.member, fact),), {"member": member.member, "address": command.wallet.address})


def rotate_wallet(command: RotateWallet, state: Directory, context: Context) -> Decision:
    """Replace the wallet that signed. Raises UnknownMember, KeyNotLiving, InvalidField, KeyInUse."""
    member = known_member(state, context.actor)
    if member.wallet != command.old_address:
        raise KeyNotLiving("only your present wallet can sign for its successor", subject=member.member)
    fresh_wallet(command.wallet.address, state)
    fact = WalletRotated(member.member, command.old_address, command.wallet, command.authorization)
    return Decision((Emit(member.member, fact),), {"member": member.member, "address": command.wallet.address})


def unlink_wallet(command: UnlinkWallet, state: Directory, context: Context) -> Decision:
    """End a wallet's power. Raises UnknownMember, KeyNotLiving, LastKey."""
    member = known_member(state, context.actor)
    if member.wallet is None or member.wallet != command.address:
        raise KeyNotLiving("this is not your wallet", subject=member.member)
    if member.kid == member.wallet:
        raise LastKey("this wallet is your only key: replace it instead", member=member.member)
    fact = WalletUnlinked(member.member, member.wallet, command.authorization)
    return Decision((Emit(member.member, fact),), {"member": member.member, "address": member.wallet})
