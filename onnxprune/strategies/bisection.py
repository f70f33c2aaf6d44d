"""Bisection along a path of candidates for the last one that is within bounds.

One end of the path is known to be within bounds, the other one is taken not to be. For a cost budget the path
runs from narrow to wide networks; for a bound on the loss of quality, from wide to narrow ones. Every step
makes and evaluates a real candidate.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..execution.tasks import run

T = TypeVar("T")

_MARGIN = 0.15  # of a bracket: interpolated points keep away from its ends, so that it always shrinks


@dataclass(frozen=True)
class Trial(Generic[T]):
    """A candidate that was made.

    Attributes:
        at: where on the path.
        candidate: what was made there.
        excess: by how much it exceeds its bounds; 0 or less is within.
    """

    at: float
    candidate: T
    excess: float


@dataclass(frozen=True)
class Bisection(Generic[T]):
    """All that was tried.

    Attributes:
        trials: in the order they were made.
        inside: the end of the path that was taken for safe.
    """

    trials: tuple[Trial[T], ...]
    inside: float

    @property
    def within(self) -> tuple[Trial[T], ...]:
        """Those within bounds, the furthest from the safe end first."""
        passed = (t for t in self.trials if t.excess <= 0)
        return tuple(sorted(passed, key=lambda t: -abs(t.at - self.inside)))

    @property
    def best(self) -> Trial[T] | None:
        """The furthest within bounds; `None` if there is none."""
        return next(iter(self.within), None)

    @property
    def closest(self) -> Trial[T]:
        """The one that exceeds its bounds least, if all do."""
        return min(self.trials, key=lambda t: t.excess)

    def confirmed(self, holds: Callable[[T], bool]) -> Trial[T] | None:
        """The furthest within bounds that also holds on evidence which the search hasn't seen."""
        return next((t for t in self.within if holds(t.candidate)), None)


@dataclass(frozen=True)
class Effort:
    """How long to search.

    Attributes:
        evaluations: at most this many candidates, the safe end apart.
        tolerance: a candidate that is within bounds by no more than this excess is good enough.
    """

    evaluations: int = 8
    tolerance: float = 0.0


_DEFAULT = Effort()


def bisect(
    evaluate: Callable[[float], T],
    excess: Callable[[T], float],
    *,
    inside: float,
    outside: float,
    effort: Effort = _DEFAULT,
    executor: Executor | None = None,
) -> Bisection[T]:
    """Find the last candidate within bounds.

    The safe end itself is only tried when nothing else was within bounds.

    Args:
        evaluate: makes the candidate at a place on the path; called in other processes if `executor` does so.
        excess: by how much a candidate exceeds its bounds; 0 or less is within.
        inside: the end where candidates are within bounds.
        outside: the end where they are taken not to be.
        effort: how long to search.
        executor: where to make them; here and one after the other by default.

    Returns:
        Everything that was tried.
    """
    trials: list[Trial[T]] = []
    near, far = _End(inside, None), _End(outside, None)
    while len(trials) < effort.evaluations:
        at = _next(near, far, effort.tolerance)
        made = next(run(evaluate, [at], executor))
        trial = Trial(at, made, excess(made))
        trials.append(trial)
        if trial.excess > 0:
            far = _End(trial.at, trial.excess)
        else:
            near = _End(trial.at, trial.excess)
        if -effort.tolerance <= trial.excess <= 0 or abs(far.at - near.at) < 1e-3:
            break
    if not any(t.excess <= 0 for t in trials):
        made_inside = next(run(evaluate, [inside], executor))
        trials.append(Trial(inside, made_inside, excess(made_inside)))
    return Bisection(tuple(trials), inside)


@dataclass(frozen=True)
class _End:
    """One end of a bracket, and the excess there if it is known."""

    at: float
    excess: float | None


def _next(near: _End, far: _End, tolerance: float) -> float:
    """Where to look next, between both ends."""
    span = far.at - near.at
    share = 0.5
    if near.excess is not None and far.excess is not None:  # aim at the middle of what is good enough
        share = (-tolerance / 2 - near.excess) / (far.excess - near.excess)
    return near.at + span * min(max(share, _MARGIN), 1 - _MARGIN)
