"""`--weights random`: what is left of a model, to train from scratch."""

from __future__ import annotations

from dataclasses import replace

from ..repair.initial import drawn
from .job import Made


def untrained(made: Made, seed: int) -> Made:
    """With weights drawn anew, and notes on what that means.

    Raises:
        InputError: there are none to draw.
    """
    graph, stay = drawn(made.graph, seed)
    notes = [f"weights are random (seed {seed}): the result has to be trained, and the verdict is of chance"]
    if stay:
        more = f" and {len(stay) - 3} more" if len(stay) > 3 else ""
        named = ", ".join(f"'{name}'" for name in stay[:3])
        notes.append(f"{named}{more} stay as they are: no rule says how they are initialised")
    return replace(made, outcome=replace(made.outcome, graph=graph), notes=(*made.notes, *notes))
