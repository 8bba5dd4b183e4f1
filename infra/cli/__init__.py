"""The command line `commons`."""

from __future__ import annotations

from infra.cli.app import main

__all__ = ["main"]
