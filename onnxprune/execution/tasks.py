"""Where work runs: here, on other cores, or on other machines.

A task is a function and one value, both picklable where an executor takes them to other processes. Any
`concurrent.futures.Executor` will do: `ProcessPoolExecutor` on this machine, `dask.distributed.Client`'s
`get_executor()` on a cluster. What comes out doesn't depend on which, or on how many workers there are.
Whatever is timed runs here, alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import TypeVar

Value = TypeVar("Value")
Result = TypeVar("Result")


def run(
    work: Callable[[Value], Result], values: Iterable[Value], executor: Executor | None = None
) -> Iterator[Result]:
    """The results of some tasks, in the order of the tasks.

    Args:
        work: what is done with each value.
        values: a task each.
        executor: where they run; `None`: here, one after the other, each when its result is asked for.

    Raises:
        Exception: whatever a task raises, when its result is asked for.
    """
    return map(work, values) if executor is None else executor.map(work, values)
