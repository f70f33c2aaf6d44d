"""Which repair is tried with what is known, and which of them is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ..contracts.choices import Mode
from ..contracts.reduction import Lost, Sparse
from ..contracts.repaired import Repaired
from ..contracts.stats import Stats
from ..errors import InputError, UsageError
from ..graph import Array, Network
from ..quality.loss import Judge
from .merging import merged, shifted
from .projection import projected
from .sequential import fold
from .task import Task

Stored = Callable[[Network], Network]
"""How a network whose weights were fitted as floats is stored in the end."""


def fitted(
    plain: Network,
    attempts: Sequence[tuple[str, Task, Stored]],
    batches: Iterable[Mapping[str, Array]],
    judge: Judge,
    *,
    memory: float = 2e9,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[int | None, Repaired]:
    """The first of some repairs that is better than none, on samples that the fit has not seen.

    Args:
        plain: the cut network without a repair.
        attempts: what to try in turn: its name, the task, and how the result is stored.
        batches: samples to fit on, gone through several times; two batches or more, so that one half can
            judge what the other has fitted.
        judge: knows the original's outputs on other samples.
        memory: bytes of activations to hold before they go to a temporary folder.
        seed: which rows are looked at where there are more than enough.
        progress: called with how many steps are done, of how many.

    Returns:
        Which attempt it is (`None`: nothing helps), and the network.
    """
    try:
        before = judge.loss(plain.graph)
    except InputError as error:
        return None, Repaired(plain, "none", notes=(f"no repair could be judged: {error}",))
    notes: list[str] = []
    for index, (name, task, stored) in enumerate(attempts):
        try:
            network, layers = fold(
                task, batches, weights=name != "bias", memory=memory, seed=seed, progress=progress
            )
            network = stored(network)
            after = judge.loss(network.graph)
        except InputError as error:
            notes.append(f"repair by {name} failed: {error}")
            continue
        if after < before:
            return index, Repaired(network, name, layers, before, after, tuple(notes))
    return None, Repaired(plain, "none", (), before, before, tuple(notes))


def from_statistics(task: Task, mode: Mode, stats: Stats, stored: Stored) -> Repaired:
    """A repair from sums alone: nothing is run, and nothing can be judged.

    Args:
        task: what was done.
        mode: what may change.
        stats: of the network that was cut.
        stored: how the network is stored in the end.

    Raises:
        UsageError: single weights or kernels are gone from a layer whose kernels have several taps. Taps are
            correlated, and the statistics hold none of that.
    """
    for one in task.cut.lost:
        if isinstance(one, Sparse) and one.layer.layout.taps > 1 and mode != "bias":
            reason = (
                f"'{one.layer.node.name or one.layer.output}' can't be repaired from statistics of channels"
            )
            hint = "give --calib in place of --stats, or --repair none"
            raise UsageError(reason, where="--stats", hint=hint)
    network, unknown = projected(task, stats, weights=mode != "bias")
    plural = "s" if unknown != 1 else ""
    note = f"repair leaves {unknown} layer{plural} unchanged: the statistics don't cover their inputs"
    return Repaired(stored(network), "bias" if mode == "bias" else "stats", notes=(note,) if unknown else ())


def from_weights(task: Task, mode: Mode, stored: Stored) -> Repaired | None:
    """A repair without samples: channels are merged into similar ones; `None` where no channels are gone.

    Args:
        task: what was done.
        mode: what may change; with `bias`, biases take over the means that BatchNormalization implies.
        stored: how the network is stored in the end.
    """
    if not any(isinstance(one, Lost) for one in task.cut.lost):
        return None
    if mode == "bias":
        return Repaired(stored(shifted(task)), "bias")
    return Repaired(stored(merged(task)), "merge")
