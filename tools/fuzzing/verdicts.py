"""What is wrong with how a command ended: the manners that every command promises."""

from __future__ import annotations

import re

from .runner import Run

CODES = frozenset({0, 1, 2, 3})
"""Done, a check failed, bad input, can't be pruned as asked. A bug has a code of its own."""

_DEBRIS = re.compile(r"\.onnxprune-(?:part|journal)$")
_PROGRESS = re.compile(r"\S.* \.\.\.")
_OURS = "onnxprune: "


def faults(run: Run, limit: int) -> tuple[str, ...]:
    """Names of all faults of a run; none if it is clean.

    Args:
        run: how it ended.
        limit: bytes of memory that it may have held.
    """
    out, err = (said.decode("utf-8", "replace") for said in (run.out, run.err))
    lines = err.splitlines()
    errors = [line for line in lines if line.startswith(_OURS)]
    found = {
        "hang": run.code is None,
        "crash": run.code is not None and run.code < 0,
        "bug": run.code == 70 or "a bug in onnxprune" in err,
        "exit code": run.code is not None and run.code not in (*CODES, 70) and run.code >= 0,
        "traceback": "Traceback (most recent call last)" in out + err,
        "control characters": any(not c.isprintable() for c in (out + err).replace("\n", "")),
        "commands to a log": _commands(out, err),
        "other lines on stderr": any(
            not line.startswith(_OURS) and not _PROGRESS.fullmatch(line) for line in lines
        ),
        "no reason": run.code in (2, 3) and not errors,
        "several reasons": len(errors) > 1,
        "a reason for success": run.code == 0 and bool(errors),
        "a long message": any(len(line) > 2200 for line in errors),
        "memory": run.memory > limit,
        "debris": any(_DEBRIS.search(name) for name in run.left),
        "output of a failed run": run.code in (2, 3)
        and any(not name.startswith("report") for name in run.left),
    }
    return tuple(name for name, holds in found.items() if holds)


def _commands(out: str, err: str) -> bool:
    """Whether GitHub or Azure would take a line for a command that the `github` format doesn't give."""
    if out.startswith("::stop-commands::"):
        out = ""
    return any(line.lstrip().startswith("::") or "##[" in line for line in (out + err).splitlines())
