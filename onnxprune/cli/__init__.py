"""The command line. What it needs is imported when it runs, so that signals find somebody who answers."""

from __future__ import annotations

import gc
import sys

from .streams import guarded, starting

_OBJECTS = 100_000
"""So many new objects before the collector looks at them: imports make many, and none of them is garbage."""


def main() -> None:
    """Run the command line; every error is one line on stderr, and an exit code."""
    gc.set_threshold(_OBJECTS)
    with starting():
        from .app import run as run_app
    sys.exit(guarded(lambda: run_app(sys.argv[1:])))


def run(arguments: list[str]) -> int:
    """Run a command in this process; see `app.run`."""
    from .app import run as run_app

    return run_app(arguments)
