"""Iterative pruning: scores and losses are measured again after each step.

Only choices are made step by step. The result is cut from the original at the end and repaired once, against
the original's own activations, so errors of repair don't add up and a plan can be replayed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from ..contracts.choices import Schedule
from ..contracts.groups import Choice, Group, Scores
from ..types import Floats, Mask, Progress
from .ladder import Ladder
from .limits import AllocationProblem, widest_within
from .schedule import schedule
from .widths import Widths

Refresh = Callable[[Choice], Sequence[Ladder]]
"""From what is left to ladders of groups of the cut and repaired network: the same ids, fewer units."""

Rescore = Callable[[Choice], Mapping[str, Floats]]
"""The same for scores alone: id of a group -> (units that are left,)."""


def stepwise(
    problem: AllocationProblem,
    steps: int,
    kind: Schedule,
    refresh: Refresh,
    target: float | None = None,
) -> AllocationProblem:
    """The allocation problem with ladders renewed after each step but the last.

    Args:
        problem: for the whole network.
        steps: how many.
        kind: how much goes in each.
        refresh: looks at what is left.
        target: the share to keep in the end; by default what the limits allow.

    Raises:
        Infeasible: a limit can't be met.
        CannotCut: what is left would not fit together.
    """
    if steps == 1:
        return problem
    if target is None:
        target = problem.allocation.share(widest_within(problem))
    for number, share in enumerate(schedule(target, steps, kind)[:-1], 1):
        what = problem.allocation.what
        problem.progress(f"Step {number} of {steps}: to {share:.3g} of the {what}")
        choice = problem.allocation.choice(max(share, problem.allocation.floor))
        if choice.removes_nothing():
            continue
        found = {ladder.group.id: ladder for ladder in refresh(choice)}
        ladders = [
            _continued(old, choice, found.get(old.group.id), problem.widths)
            for old in problem.allocation.ladders
        ]
        problem = replace(problem, allocation=replace(problem.allocation, ladders=ladders))
    return problem


def _continued(old: Ladder, choice: Choice, new: Ladder | None, widths: Widths) -> Ladder:
    """A ladder of the original's group on which what is gone goes first, for nothing.

    Args:
        old: as it was.
        choice: what is left.
        new: a ladder of what is left; `None` where there is none.
        widths: that groups may have.
    """
    stays = choice.of(old.group)
    gone = int((~stays).sum())
    if new is not None and new.group.size != old.group.size - gone:
        new = None
    left = old.scores[stays] if new is None else new.scores
    curve = old.curve[gone:] - old.curve[gone] if new is None else new.curve
    return Ladder(
        old.group,
        _behind(stays, left),
        np.concatenate([np.zeros(gone), curve]),
        round_to=widths.of(old.group),
        min_channels=widths.least,
    )


def _behind(stays: Mask, left: Floats) -> Floats:
    """Scores (units,) of a group in which what is gone goes first."""
    scores = np.full(stays.size, left.min(initial=0.0) - 1.0)
    scores[stays] = left
    return scores


def rescored(
    groups: Sequence[Group],
    scores: Scores,
    keep: float,
    steps: int,
    kind: Schedule,
    choose: Callable[[Scores, float], Choice],
    rescore: Rescore,
    progress: Progress,
) -> Choice:
    """The choice that keeps a share of units, made step by step, with scores of what is left after each.

    Args:
        groups: of units.
        scores: of the whole network.
        keep: the share to keep in the end.
        steps: how many.
        kind: how much goes in each.
        choose: which units stay, from scores and the share to keep.
        rescore: looks at what is left.
        progress: called with what begins.
    """
    for number, share in enumerate(schedule(keep, steps, kind)[:-1], 1):
        progress(f"Step {number} of {steps}: to {share:.3g} of the units")
        choice = choose(scores, share)
        if choice.removes_nothing():
            continue
        found = rescore(choice)
        scores = tuple(
            _renewed(choice.of(group), score, found.get(group.id))
            for group, score in zip(groups, scores, strict=True)
        )
    return choose(scores, keep)


def _renewed(stays: Mask, old: Floats, new: Floats | None) -> Floats:
    """Scores of a group where what is gone goes first; `new`: of what is left, or of zeros as well."""
    if new is not None and new.size == stays.size:
        new = new[stays]
    return _behind(stays, old[stays] if new is None or new.size != stays.sum() else new)
