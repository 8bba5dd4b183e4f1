"""The registry's state is the directory every process keeps: one fold, so nobody can see another community."""

from __future__ import annotations

from services.kernel.directory import Directory, Member, Node, evolve, suspension

__all__ = ["Directory", "Member", "Node", "evolve", "initial", "suspension"]


def initial() -> Directory:
    """Return the registry before its first fact."""
    return Directory()
