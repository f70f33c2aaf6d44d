"""Sessions: a model, loaded by ONNX Runtime, that maps named arrays to named arrays."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from ..errors import InputError, LoadFailed, RunFailed, UsageError
from .messages import digest

Array: TypeAlias = npt.NDArray[Any]
Feeds: TypeAlias = Mapping[str, Array]

_NATIVE_DTYPES: dict[str, npt.DTypeLike] = {
    "bool": np.bool_,
    "double": np.float64,
    "float": np.float32,
    "float16": np.float16,
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
}

# What ONNX Runtime doesn't convert from and to NumPy by itself, with the numbers of ONNX's DataType.
_FOREIGN_DTYPES: dict[str, tuple[npt.DTypeLike, int]] = {
    "bfloat16": (ml_dtypes.bfloat16, 16),
    "float8e4m3fn": (ml_dtypes.float8_e4m3fn, 17),
    "float8e4m3fnuz": (ml_dtypes.float8_e4m3fnuz, 18),
    "float8e5m2": (ml_dtypes.float8_e5m2, 19),
    "float8e5m2fnuz": (ml_dtypes.float8_e5m2fnuz, 20),
}
_FOREIGN_NUMBERS = {np.dtype(dtype): number for dtype, number in _FOREIGN_DTYPES.values()}

_SILENT = 4  # ONNX Runtime logs from this severity on: fatal only, for errors come as exceptions

_NO_MEMORY = re.compile(r"bad_alloc|Failed to allocate memory|BFCArena::AllocateRawInternal")


@cache
def _ort() -> Any:
    """ONNX Runtime, imported when it is first needed; it reports to nobody what it runs."""
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


@dataclass(frozen=True)
class ExecutionOptions:
    """How ONNX Runtime executes a model.

    Attributes:
        provider: the execution provider, one of `available_providers()`; the CPU does what it can't.
        threads: threads within an operator; 0 leaves the number to ONNX Runtime.
        optimize: whether ONNX Runtime may rewrite the graph (fuse, fold constants, change layouts).
        prepack: whether weights are copied into the order that kernels like: a run is faster, and takes as
            much memory again; by default unless weights are passed as arrays, for then they are large.
    """

    provider: str = "CPUExecutionProvider"
    threads: int = 0
    optimize: bool = True
    prepack: bool | None = None


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model.

    Attributes:
        name: its name in the model.
        dtype: of its elements; bfloat16 and float8 are those of ml_dtypes, and `object` stands for strings
            and for what isn't a tensor (a sequence, a map).
        shape: one entry per axis: a size, the name of a symbolic size, or None for a size without a name.
            `()` for a scalar, and where the model doesn't declare the rank.
        is_tensor: whether it is one, and no sequence or map.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]
    is_tensor: bool = True


class Session:
    """A model that is ready to run.

    Args:
        model: the serialized model, or the path of a file (needed when weights lie in files beside it).
        options: how to execute it.
        trace: where to record what every kernel does, as the beginning of a path; see `end_trace`.
        where: what messages call a serialized model.
        weights: values of initializers that a serialized model has in other files; they are not copied.

    Raises:
        LoadFailed: ONNX Runtime can't load the model.
        InputError: there is no such file, or not enough memory.
        UsageError: the provider isn't available here.

    Example:
        >>> import numpy as np
        >>> session = Session("models/digits-plain.onnx")
        >>> session.run({"image": np.zeros((2, 1, 28, 28), np.float32)})["logits"].shape
        (2, 10)
    """

    def __init__(
        self,
        model: bytes | str | os.PathLike[str],
        options: ExecutionOptions | None = None,
        *,
        trace: str | None = None,
        where: str = "model",
        weights: Mapping[str, Array] | None = None,
    ) -> None:
        options = options or ExecutionOptions()
        if isinstance(model, bytes):
            self._where = where
        else:
            self._where = os.fspath(model)
            if not Path(model).is_file():
                raise InputError("there is no such file", where=self._where)
            model = self._where
        self._weights = {name: _aligned(array) for name, array in (weights or {}).items()}
        self._session = _open(model, options, self._where, trace, self._weights)
        self._inputs = tuple(map(_spec, self._session.get_inputs()))
        self._outputs = tuple(map(_spec, self._session.get_outputs()))
        self._foreign = any(spec.dtype in _FOREIGN_NUMBERS for spec in self._inputs + self._outputs)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What the model needs, in its own order; initializers that may be overridden aren't listed."""
        return self._inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the model gives, in its own order."""
        return self._outputs

    def run(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> dict[str, Array]:
        """Compute outputs.

        Args:
            feeds: an array for each input, of exactly its dtype.
            outputs: the names of the outputs to compute, all by default.

        Returns:
            The outputs by name, in the order asked for. What isn't a tensor is wrapped in a 0-d object array.

        Raises:
            InputError: the feeds don't fit the model.
            RunFailed: a node fails.
        """
        names = self._names(outputs)
        return dict(zip(names, self.bind(feeds, names)(), strict=True))

    def bind(self, feeds: Feeds, outputs: Sequence[str] | None = None) -> Callable[[], list[Array]]:
        """Check and convert feeds once, to run on them many times.

        Args:
            feeds: as for `run`.
            outputs: as for `run`.

        Returns:
            A function without arguments that runs the model and returns the outputs in the order asked for.
            It raises RunFailed when a node fails.

        Raises:
            InputError: the feeds don't fit the model.
        """
        names = self._names(outputs)
        self._check(feeds, names)
        if not names:  # to ONNX Runtime, none would mean all
            return list
        if self._foreign:
            values = {name: _to_ort(array) for name, array in feeds.items()}
            call, decode = self._session.run_with_ort_values, _from_ort
        else:
            values = dict(feeds)
            call, decode = self._session.run, _as_array

        def run() -> list[Array]:
            try:
                with _translated(self._where, RunFailed):
                    return [decode(value) for value in call(names, values)]
            except RunFailed as error:
                error.feeds = feeds
                raise

        return run

    def end_trace(self) -> Path:
        """Stop recording and return the file of events, in Chrome's trace format; only once."""
        return Path(self._session.end_profiling())

    def _names(self, outputs: Sequence[str] | None) -> list[str]:
        return [spec.name for spec in self._outputs] if outputs is None else list(outputs)

    def _check(self, feeds: Feeds, outputs: Sequence[str]) -> None:
        """Say by name what ONNX Runtime would refuse without one."""
        specs = {spec.name: spec for spec in self._inputs}
        for name in feeds:
            if name not in specs:
                raise InputError("the model has no such input", where=f"input '{name}'", hint=_these(specs))
        for name, spec in specs.items():
            if name not in feeds:
                raise InputError("no array is given for it", where=f"input '{name}'")
            if spec.dtype not in (object, feeds[name].dtype):
                reason = f"the array has dtype {feeds[name].dtype}, and the model needs {spec.dtype}"
                raise InputError(reason, where=f"input '{name}'")
        known = self._names(None)
        for name in outputs:
            if name not in known:
                raise InputError("the model has no such output", where=f"output '{name}'", hint=_these(known))


def version() -> str:
    """The version of ONNX Runtime."""
    return str(_ort().__version__)


def available_providers() -> tuple[str, ...]:
    """The execution providers of this installation, the preferred one first."""
    return tuple(_ort().get_available_providers())


def _open(
    model: bytes | str,
    options: ExecutionOptions,
    where: str,
    trace: str | None,
    weights: Mapping[str, Array],
) -> Any:
    if options.provider not in available_providers():
        reason = f"ONNX Runtime has no execution provider '{options.provider}' here"
        raise UsageError(reason, hint=_these(available_providers()))
    settings = _ort().SessionOptions()
    settings.log_severity_level = _SILENT
    settings.intra_op_num_threads = options.threads
    # Idle threads of one session would spin on the cores that the next one is timed on: on a busy machine
    # with two cores, the ratio of two equal networks then has an interval of 30%, and of 1% without spinning.
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if trace is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = trace
    if not options.optimize:
        settings.graph_optimization_level = _ort().GraphOptimizationLevel.ORT_DISABLE_ALL
    if not (options.prepack or (options.prepack is None and not weights)):
        settings.add_session_config_entry("session.disable_prepacking", "1")
    if weights:
        settings.add_external_initializers(list(weights), list(map(_to_ort, weights.values())))
    with _translated(where):
        session = _ort().InferenceSession(model, settings, providers=[options.provider], enable_fallback=0)
    if options.provider not in session.get_providers():
        raise UsageError(f"execution provider '{options.provider}' doesn't start on this machine")
    return session


@contextmanager
def _translated(where: str, kind: type[InputError] = LoadFailed) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # what ONNX Runtime raises has no base class but this
        node, reason = digest(str(error))
        place = f"{where}: {node}" if node else where
        if isinstance(error, MemoryError) or _NO_MEMORY.search(str(error)):
            hint = "give smaller sizes or fewer samples at once"
            raise InputError("not enough memory to run it", where=place, hint=hint) from error
        raise kind(reason, where=place) from error


def silence() -> None:
    """No lines on stderr from sessions that another library opens; ours are silent by their options."""
    _ort().set_default_logger_severity(_SILENT)


def _spec(argument: Any) -> TensorSpec:
    shape = tuple(size if isinstance(size, int | str) else None for size in argument.shape)
    return TensorSpec(argument.name, _dtype(argument.type), shape, argument.type.startswith("tensor("))


def _dtype(type_: str) -> np.dtype[Any]:
    """The dtype for a type as ONNX Runtime spells it, such as `tensor(float)` or `seq(tensor(int64))`."""
    element = type_.removeprefix("tensor(").removesuffix(")")
    if element in _FOREIGN_DTYPES:
        return np.dtype(_FOREIGN_DTYPES[element][0])
    return np.dtype(_NATIVE_DTYPES.get(element, object))


def _aligned(array: Array) -> Array:
    return array if array.flags.aligned and array.flags.c_contiguous else np.array(array, order="C")


def _to_ort(array: Array) -> Any:
    array = np.asarray(array, order="C")
    if array.dtype in _FOREIGN_NUMBERS:
        return _ort().OrtValue.ortvalue_from_numpy_with_onnx_type(array, _FOREIGN_NUMBERS[array.dtype])
    return _ort().OrtValue.ortvalue_from_numpy(array)


def _from_ort(value: Any) -> Array:
    dtype = _dtype(value.data_type())
    if dtype not in _FOREIGN_NUMBERS:
        return _as_array(value.numpy())
    shape: list[int] = value.shape()
    size = dtype.itemsize * int(np.prod(shape))
    return np.frombuffer(ctypes.string_at(value.data_ptr(), size), dtype).reshape(shape)


def _as_array(value: Any) -> Array:
    if isinstance(value, np.ndarray):
        return value
    box = np.empty((), object)
    box[()] = value
    return box


def _these(names: Iterable[str]) -> str:
    return f"there are: {', '.join(names)}"
