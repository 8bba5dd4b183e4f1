"""Decisions of the treasury: one function per command, one file per kind of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from services.kernel.decider import Command, Context, Decision
from services.treasury import commands
from services.treasury.decide.accounts import close_account, open_account, open_member_account
from services.treasury.decide.genesis import adopt_genesis
from services.treasury.decide.holdback import forfeit_holdback, release_holdback
from services.treasury.decide.late import pay_late_usage, release_late_reserve
from services.treasury.decide.scores import note_epoch_scores
from services.treasury.decide.settlement import settle_epoch
from services.treasury.decide.transactions import burn_supply, post_transaction
from services.treasury.state import Book

DECIDE: Final[Mapping[type[Command], Callable[[Any, Book, Context], Decision]]] = {
    commands.AdoptGenesis: adopt_genesis,
    commands.OpenMemberAccount: open_member_account,
    commands.OpenAccount: open_account,
    commands.CloseAccount: close_account,
    commands.PostTransaction: post_transaction,
    commands.BurnSupply: burn_supply,
    commands.NoteEpochScores: note_epoch_scores,
    commands.SettleEpoch: settle_epoch,
    commands.PayLateUsage: pay_late_usage,
    commands.ReleaseLateReserve: release_late_reserve,
    commands.ReleaseHoldback: release_holdback,
    commands.ForfeitHoldback: forfeit_holdback,
}
