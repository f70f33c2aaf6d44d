"""Latency, measured so that models can be compared on a machine that has other things to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .session import Feeds

_MIN_TIMING = 1e-3  # seconds; shorter timings say more about the clock and the scheduler than about the model
_MIN_ROUNDS = 6  # the fewest that give `ratio` an interval


class Bindable(Protocol):
    """What can be timed: a `Session`, or whatever binds feeds into a function without arguments."""

    def bind(self, feeds: Feeds, /) -> Callable[[], object]:
        """Prepare to run on these feeds many times."""


@dataclass(frozen=True, eq=False)
class Timings:
    """Paired timings: what stands in one column was measured in one round, side by side.

    Attributes:
        seconds: float64 (sessions, rounds), seconds per run.
    """

    seconds: npt.NDArray[np.float64]

    @property
    def medians(self) -> tuple[float, ...]:
        """The median seconds per run of each session."""
        return tuple(float(median) for median in np.median(self.seconds, axis=1))


def latency(
    sessions: Sequence[Bindable],
    feeds: Sequence[Feeds],
    *,
    rounds: int | None = None,
    seconds: float = 2.0,
    warmup: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Time sessions side by side.

    In each round every session runs in turn, so a disturbance hits all of them, and the order changes from
    round to round, so none is always first. A session that takes less than a millisecond runs several times
    per timing.

    Args:
        sessions: what to time.
        feeds: the feeds of each session.
        rounds: the number of rounds; by default as many as fit into `seconds`, but at least six.
        seconds: how long to measure, warm-up apart.
        warmup: the number of untimed rounds before; the first runs allocate memory and pack weights.
        clock: the time in seconds.

    Returns:
        The timings, in the order of the sessions; `ratio` compares two rows of them.

    Raises:
        InputError: feeds don't fit their session, or a node fails.
        ValueError: `sessions` and `feeds` have different lengths, or there is no session or no round.
    """
    runs = [session.bind(feed) for session, feed in zip(sessions, feeds, strict=True)]
    if not runs or (rounds is not None and rounds < 1):
        raise ValueError("nothing to time")
    for _ in range(warmup):
        for run in runs:
            run()
    repeats = [_repeats(run, clock) for run in runs]

    columns: list[list[float]] = []
    start = clock()
    for order in _orders(len(runs)):
        column = [0.0] * len(runs)
        for index in order:
            column[index] = _time(runs[index], repeats[index], clock) / repeats[index]
        columns.append(column)
        enough = (
            len(columns) >= _MIN_ROUNDS and clock() - start >= seconds
            if rounds is None
            else len(columns) == rounds
        )
        if enough:
            break
    return Timings(np.array(columns).T)


def _orders(count: int) -> Iterator[list[int]]:
    """Rotations of the sessions, forwards, then backwards, without end: each is first, and last, as often."""
    forwards = list(range(count))
    while True:
        for order in (forwards, forwards[::-1]):
            for first in range(count):
                yield order[first:] + order[:first]


def _repeats(run: Callable[[], object], clock: Callable[[], float]) -> int:
    """The number of runs, a power of two, that a timing needs."""
    repeats = 1
    while _time(run, repeats, clock) < _MIN_TIMING:
        repeats *= 2
    return repeats


def _time(run: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    start = clock()
    for _ in range(repeats):
        run()
    return clock() - start
