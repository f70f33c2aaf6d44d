"""What a loss feels of units, measured: the graph runs with a factor on one unit wherever it is read."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort

from onnxprune.graph import Edits, Graph, make_node
from onnxprune.reductions.channels.mask import merged, spread
from onnxprune.reductions.channels.sites import hands_on, local

UNIT, FACTOR = "unit", "factor"


def gated(space, group) -> Graph:
    """The graph with the factor of a unit of a group as an input: nothing of where gates are is shared."""
    network, analysis = space.network, space.analysis
    graph = network.graph
    edits = Edits()
    for index, reader in enumerate(analysis.readers):
        units = reader.place.units
        if hands_on(reader) or not np.isin(units, group.units).any():
            continue
        at = (reader.node, reader.input)
        name = graph.nodes[reader.node].inputs[reader.input]
        dtype = graph.dtype(name) if name in graph.constants else network.facts.dtypes[name]
        fresh = f"{name}.gated{index}"
        over = spread(local(group, units), reader)
        if name not in graph.constants:
            over = merged(over, reader, network.facts.shapes[name] or ())
        elif graph.shape_of_constant(name) != reader.view:
            over = np.broadcast_to(over, reader.view).reshape(graph.shape_of_constant(name))
        edits.added[f"{fresh}.units"] = over
        edits.added[f"{fresh}.one"] = np.ones((), dtype)
        element = {"float16": 10, "float32": 1, "float64": 11}[dtype.name]
        edits.before.setdefault(reader.node, []).extend(
            make_node(op, inputs, [output], output, **more)
            for op, inputs, output, more in (
                ("Equal", [f"{fresh}.units", UNIT], f"{fresh}.is", {}),
                ("Cast", [FACTOR], f"{fresh}.cast", {"to": element}),
                ("Where", [f"{fresh}.is", f"{fresh}.cast", f"{fresh}.one"], f"{fresh}.factor", {}),
                ("Mul", [edits.rewire.get(at, name), f"{fresh}.factor"], fresh, {}),
            )
        )
        edits.rewire[at] = fresh
    return graph.edited(edits)


class Gated:
    """Runs a graph with a factor on any unit of a group."""

    def __init__(self, space, group, *tensors: str) -> None:
        self.tensors = tensors or space.network.graph.outputs
        graph = gated(space, group).tapped(self.tensors)
        model = graph.model
        for name, element in ((UNIT, 7), (FACTOR, 1)):
            if name not in graph.inputs:
                value = model.graph.input.add(name=name)
                value.type.tensor_type.elem_type = element
                value.type.tensor_type.shape.SetInParent()
        self._session = ort.InferenceSession(model.SerializeToString())
        self._names = {i.name for i in self._session.get_inputs()}

    def run(self, feeds, unit: int, factor: float) -> list[np.ndarray]:
        """The tensors, in float64."""
        more = {UNIT: np.asarray(unit, np.int64), FACTOR: np.asarray(factor, np.float32)}
        given = {n: a for n, a in {**feeds, **more}.items() if n in self._names}
        return [np.asarray(a, np.float64) for a in self._session.run(list(self.tensors), given)]


def slopes(space, group, feeds, loss, *tensors: str, step: float = 2**-7) -> np.ndarray:
    """(samples, units): central differences of a loss by gates.

    Args:
        space: the units.
        group: of these.
        feeds: inputs.
        loss: from the tensors to a number for each sample.
        tensors: what the loss reads; the outputs by default.
        step: h. Its error is h²/6 times the third derivative, besides ReLUs that switch within h.
    """
    found = Gated(space, group, *tensors)
    columns = [
        loss(*found.run(feeds, unit, 1 + step)) - loss(*found.run(feeds, unit, 1 - step))
        for unit in range(group.size)
    ]
    return np.stack(columns, axis=-1) / (2 * step)
