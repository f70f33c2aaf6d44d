"""The command line. What it needs is imported when it runs, so that signals find somebody who answers."""

from __future__ import annotations

import sys

from .streams import guarded, starting


def main() -> None:
    """Run the command line; every error is one line on stderr, and an exit code."""
    with starting():
        from .app import run as run_app
    sys.exit(guarded(lambda: run_app(sys.argv[1:])))


def run(arguments: list[str]) -> int:
    """Run a command in this process; see `app.run`."""
    from .app import run as run_app

    return run_app(arguments)
