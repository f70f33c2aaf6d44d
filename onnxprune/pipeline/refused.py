"""Where what a choice leaves does not fit together, what it was about stays, and the run starts again.

The analysis rehearses removals, but not all that there are: a number that is computed from a width may be the
same for half of the channels and another one for a tenth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ..execution.sessions import blaming
from ..ops.record import Inconsistent
from ..types import Cause
from .job import Job
from .prepare import require_groups
from .stuck import blocked

T = TypeVar("T")


def consistently(job: Job, run: Callable[[Job], T]) -> T:
    """Run a job; each time that a rewrite can't be done, again without the groups that are in the way.

    Raises:
        Inconsistent: it is about no group.
        Infeasible: nothing is left to prune, or as `run`.
    """
    while True:
        require_groups(job.ready)
        try:
            with blaming(job.ready.original, job.timing.dims):
                return run(job)
        except Inconsistent as trouble:
            job = _without(job, trouble)


def _without(job: Job, trouble: Inconsistent) -> Job:
    analysis = job.ready.analysis
    touched = np.zeros(analysis.count, bool)
    touched[analysis.unit[trouble.ids]] = True
    cause = Cause(trouble.node.index, trouble.reason, "removing fewer of them")
    left = blocked(analysis, touched, lambda _: cause)
    if len(left.groups) == len(analysis.groups):
        raise trouble
    note = f"{trouble.node}: {trouble.reason}: the channels that it is about stay"
    return replace(job, ready=replace(job.ready, analysis=left, notes=(*job.ready.notes, note)))
