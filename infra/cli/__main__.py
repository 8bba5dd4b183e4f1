"""Lets `python -m infra.cli` be the command line, which is how the supervisor starts its children."""

from __future__ import annotations

from infra.cli.app import main

if __name__ == "__main__":
    main()
