"""How long the kernels of small models take, apart from what surrounds them.

A layer cut out of its network comes with costs that it hadn't there: a session's fixed cost for each run, and
changes of layout at both ends. ONNX Runtime's own trace lists each kernel, so these can be left out.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from .latency import latency
from .session import ExecutionOptions, Feeds, Session

_SURROUNDINGS = frozenset({"ReorderInput", "ReorderOutput", "MemcpyFromHost", "MemcpyToHost"})
_TRACEABLE = frozenset({"CPUExecutionProvider"})  # others launch kernels and return before they are done


def kernel_seconds(
    models: Sequence[bytes],
    feeds: Sequence[Feeds],
    options: ExecutionOptions | None = None,
    *,
    rounds: int = 15,
    warmup: int = 2,
) -> npt.NDArray[np.float64]:
    """Run small models in turns and add up what their kernels take.

    Where the provider's kernels can't be traced, whole runs are timed.

    Args:
        models: serialized.
        feeds: for each model.
        options: how to execute them.
        rounds: how often each model runs; every round runs all of them, so that a disturbance hits all.
        warmup: untimed rounds before.

    Returns:
        float64 (models, rounds), seconds.

    Raises:
        InputError: a model can't be loaded or run.
    """
    options = options or ExecutionOptions()
    if options.provider not in _TRACEABLE:
        sessions = [Session(model, options) for model in models]
        return latency(sessions, feeds, rounds=rounds, warmup=warmup).seconds
    with tempfile.TemporaryDirectory(prefix="onnxprune-") as folder, ExitStack() as cleanup:
        sessions = []
        for index, model in enumerate(models):
            session = Session(model, options, trace=str(Path(folder) / str(index)))
            cleanup.callback(_discard, session)  # a session that isn't asked for its trace prints a complaint
            sessions.append(session)
        runs = [session.bind(feed) for session, feed in zip(sessions, feeds, strict=True)]
        for turn in range(warmup + rounds):
            first = turn % len(runs) if runs else 0
            for run in runs[first:] + runs[:first]:
                run()
        cleanup.pop_all()
        try:
            traces = [json.loads(session.end_trace().read_text(encoding="utf-8")) for session in sessions]
        except (OSError, ValueError):
            reason = "ONNX Runtime could not write all that it has measured"
            raise InputError(reason, where=folder, hint="let TMPDIR name a larger folder") from None
    return np.array([_totals(trace)[warmup:] for trace in traces]).reshape(len(models), rounds)


def _discard(session: Session) -> None:
    session.end_trace()


def _totals(events: Sequence[dict[str, Any]]) -> list[float]:
    """Seconds in kernels, for every run of a trace.

    The kernels of a loop's body are recorded before the loop, whose time holds theirs.
    """
    totals: list[float] = []
    kernels: list[tuple[int, int]] = []
    for event in events:
        if event["name"] == "model_run":
            totals.append(sum(duration for _, duration in kernels) * 1e-6)
            kernels = []
        elif _is_kernel(event):
            while kernels and kernels[-1][0] >= event["ts"]:
                kernels.pop()
            kernels.append((event["ts"], event["dur"]))
    return totals


def _is_kernel(event: dict[str, Any]) -> bool:
    return (
        event.get("cat") == "Node"
        and event["name"].endswith("_kernel_time")
        and event["args"].get("op_name") not in _SURROUNDINGS
    )
