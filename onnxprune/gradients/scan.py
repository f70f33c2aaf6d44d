"""Loops over the steps of a sequence: a body is written as arithmetic on one step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..graph import Array
from .tape import Emitted, Tape, Tensor

Step = Callable[[Sequence[Tensor], Sequence[Tensor]], tuple[list[Tensor], list[Tensor]]]
"""From states and what is scanned at one step to the next states and what is put out."""


@dataclass(frozen=True)
class Body:
    """The graph inside a Scan; it may read tensors of the graph around it.

    Attributes:
        inputs: name and element type, states first.
        outputs: names, states first.
        nodes: in order.
        constants: name and value.
    """

    inputs: tuple[tuple[str, int], ...]
    outputs: tuple[str, ...]
    nodes: tuple[Emitted, ...]
    constants: tuple[tuple[str, Array], ...]


def scan(
    tape: Tape, states: Sequence[Tensor], scanned: Sequence[Tensor], step: Step, *, backward: bool
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Run steps over the first axis of some tensors.

    Args:
        tape: where the loop goes.
        states: what they are at first.
        scanned: what each step sees a slice of.
        step: one step.
        backward: from the last to the first; what is put out stands in the order of the axis nevertheless.

    Returns:
        The last states, and what was put out, stacked along a first axis.
    """
    inner = tape.inner()
    given = [inner.named(t.dtype) for t in (*states, *scanned)]
    following, put = step(given[: len(states)], given[len(states) :])
    results = _apart([*following, *put], given)
    body = Body(
        tuple((t.name, t.element_type) for t in given),
        tuple(t.name for t in results),
        tuple(inner.nodes),
        tuple(inner.constants.items()),
    )
    direction = int(backward)
    outputs = tape.emit_many(
        "Scan",
        *states,
        *scanned,
        dtypes=[t.dtype for t in results],
        body=body,
        num_scan_inputs=len(scanned),
        scan_input_directions=[direction] * len(scanned),
        scan_output_directions=[direction] * len(put),
    )
    return outputs[: len(states)], outputs[len(states) :]


def _apart(results: Sequence[Tensor], given: Sequence[Tensor]) -> list[Tensor]:
    """Results under names of their own: a name may be an output once, and no input may be one."""
    taken = {t.name for t in given}
    found = []
    for t in results:
        found.append(t.map("Identity") if t.name in taken else t)
        taken.add(found[-1].name)
    return found
