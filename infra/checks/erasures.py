"""Erasure: nobody who was erased has a key any more, and one master key lies in the home."""

from __future__ import annotations

from infra.checks.check import Check, listed
from infra.home import KEYS, MASTER
from infra.platform import Platform
from services.kernel.directory import Directory


async def erasures(platform: Platform, directory: Directory) -> Check:
    """Compare the key store with the facts. A key that is left is destroyed by the role `follow`."""
    left = [member for member in sorted(directory.erased) if await platform.subject_keys.get(member) is not None]
    if left:
        fix = "start `commons up` with the role follow, and look at its log when this stays"
        return Check("erasures", "broken", f"keys of erased members still stand: {listed(left)}", fix)
    lies = len(list((platform.settings.home / KEYS).glob(f"{MASTER}*.key")))
    told = f"{len(directory.erased):,} members erased, none has a key; {lies} master key(s) in keys/, in the clear"
    return Check("erasures", "ok", told)
