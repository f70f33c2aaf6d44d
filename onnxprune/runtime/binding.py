"""A session whose inputs and outputs stay where they are from run to run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .session import Array, Feeds, Session, _from_ort, _to_ort, _translated


class Binding:
    """Runs a session on memory that it shares with NumPy: nothing is copied, nothing allocated twice.

    What an array holds when `run` is called is what the model reads, so a weight is changed by changing its
    array in place.

    Args:
        session: the session.
        inputs: arrays to bind once, of the inputs' dtypes; the others are given to each run.
        outputs: arrays that outputs are written to; outputs without one are allocated by each run.

    Raises:
        ValueError: an array isn't contiguous in C's order, so that it can't be shared.
    """

    def __init__(self, session: Session, inputs: Feeds, outputs: Mapping[str, Array]) -> None:
        self._session = session
        self._inputs = dict(inputs)
        self._outputs = dict(outputs)
        self._binding = session._session.io_binding()
        for name, array in inputs.items():
            self._binding.bind_ortvalue_input(name, _shared(name, array))
        names = [spec.name for spec in session.outputs]
        for name in names:  # the first time in their order: in that of their binding they are given back
            if name in outputs:
                self._binding.bind_ortvalue_output(name, _shared(name, outputs[name]))
            else:
                self._binding.bind_output(name, "cpu")
        self._free = [(k, name) for k, name in enumerate(names) if name not in outputs]

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Run once.

        Args:
            feeds: an array for each input that isn't bound; they are read where they are.

        Returns:
            The outputs that have no array of their own.

        Raises:
            InputError: the feeds don't fit the model, or a node fails.
        """
        self._session._check({**self._inputs, **feeds}, ())
        values = {name: _to_ort(array) for name, array in feeds.items()}  # holds the arrays during the run
        for name, value in values.items():
            self._binding.bind_ortvalue_input(name, value)
        for _, name in self._free:
            self._binding.bind_output(name, "cpu")
        with _translated(self._session._where):
            self._session._session.run_with_iobinding(self._binding)
        found = self._binding.get_outputs()
        return {name: _from_ort(found[k]) for k, name in self._free}


def _shared(name: str, array: Array) -> Any:
    if not array.flags["C_CONTIGUOUS"]:
        raise ValueError(f"the array of '{name}' isn't contiguous")
    return _to_ort(array)
