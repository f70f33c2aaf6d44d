"""How much of the speed that fewer MACs promise is realised in ONNX Runtime on this machine.

    pip install --no-deps rapidocr-onnxruntime magika nudenet silero-vad    # only their models are used
    python tools/bench_speed.py --threads 1 --out speed.md

For the networks in `models/`, made wider and fed with larger images (their weights are random then: only
speed matters), and for models that lie in installed packages: half of the MACs on widths that the kernels
like, half of the MACs on any widths, and 0.6 of the latency. Every latency is a ratio to the original,
measured side by side.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper

from onnxprune.contracts.cut import without
from onnxprune.contracts.groups import Choice, Group
from onnxprune.contracts.maker import Candidate
from onnxprune.contracts.reduction import Cut
from onnxprune.contracts.repaired import Repaired
from onnxprune.contracts.timing import Timing
from onnxprune.cost.macs import macs
from onnxprune.cost.model import Cost, macs_model
from onnxprune.cost.quantities import CostMeter, read
from onnxprune.cost.sizes import feeds_for, sizes
from onnxprune.errors import OnnxpruneError
from onnxprune.graph import Graph, infer
from onnxprune.pipeline import Prepared, prepare
from onnxprune.pipeline.latency import latency_cost, profiled
from onnxprune.profile import Profile
from onnxprune.runtime import Ratio, Session, latency, ratio
from onnxprune.strategies.allocation import Allocation
from onnxprune.strategies.curves import plain
from onnxprune.strategies.limits import AllocationProblem, widest_within
from onnxprune.strategies.widths import Widths

MODELS = Path(__file__).parent.parent / "models"
REAL: tuple[tuple[str, str, dict[str, int]], ...] = (
    ("rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx", {}),
    ("rapidocr_onnxruntime", "models/ch_ppocr_mobile_v2.0_cls_infer.onnx", {}),
    ("magika", "models/*/model.onnx", {}),
    ("nudenet", "320n.onnx", {"height": 320, "width": 320}),
    ("silero_vad", "data/silero_vad_16k_op15.onnx", {"sequence": 512}),
)
SHARE, LATENCY_SHARE = 0.5, 0.6


def widened(path: Path, factor: int, size: int) -> ModelProto:
    """A network with `factor` times the channels, for images of `size` pixels; random weights.

    Weights are redrawn layer by layer, each as wide as what arrives at it now.
    """
    model = onnx.load(path)
    random = np.random.default_rng(0)
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = size
    del model.graph.value_info[:]
    last = [node.name for node in model.graph.node if node.op_type in ("Conv", "Gemm")][-1]
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        shapes = shapes_of(model)
        arriving = shapes[node.input[0]][1]
        weight = weights[node.input[1]]
        old = list(weight.dims)
        out = old[0] * (1 if node.name == last else factor)
        group = next((a for a in node.attribute if a.name == "group"), None)
        if group is not None and group.i > 1:
            group.i = out = arriving
        inside = 1 if group is not None and group.i > 1 else arriving
        shape = [out, inside, *old[2:]]
        values = random.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float32), weight.name))
        if len(node.input) > 2:
            bias = np.zeros(out, np.float32)
            weights[node.input[2]].CopyFrom(numpy_helper.from_array(bias, node.input[2]))
    return model


def shapes_of(model: ModelProto) -> dict[str, list[int]]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = [*graph.value_info, *graph.input, *graph.output]
    return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


def real_models() -> Iterator[tuple[str, Path, Mapping[str, int]]]:
    for package, pattern, dims in REAL:
        found = importlib.util.find_spec(package)
        folders = list(found.submodule_search_locations or ()) if found else []
        for path in (p for folder in folders for p in sorted(Path(folder).glob(pattern))):
            yield f"{package}: {path.stem}", path, dims


@dataclass(frozen=True)
class Row:
    """One network: what was asked, what came out."""

    name: str
    milliseconds: float
    macs: int
    multiple: int
    follows: float
    preferred: Mapping[str, Any]
    naive: Mapping[str, Any]
    latency: Mapping[str, Any]
    memory_bound: Sequence[str] = field(default_factory=list)
    seconds: float = 0.0


def measured(original: Graph, results: Sequence[Graph], timing: Timing, seconds: float) -> list[Ratio]:
    sessions = [Session(g.serialized(), timing.options) for g in (original, *results)]
    feeds = feeds_for(sessions[0].inputs, sizes(original, timing.dims, timing.batch))
    times = latency(sessions, [feeds] * len(sessions), seconds=seconds * len(sessions)).seconds
    return [ratio(row, times[0]) for row in times[1:]]


def row(name: str, model: Any, timing: Timing, seconds: float) -> Row:
    began = time.perf_counter()
    ready = prepare(model, dims=timing.dims)
    space = ready.channels
    found = profiled(space, timing)
    dims = sizes(ready.graph, timing.dims, timing.batch)
    scores = tuple(uniform(group) for group in space.groups)
    work = macs_model(ready.graph, infer(ready.graph, dims), space.effect)
    before = count(ready.graph, dims)

    def graph(choice: Choice) -> Graph:
        return without(ready.network, [space], choice).network.graph

    drive = latency_cost(space, found)
    multiple, naive = (
        graph(halved(Allocation(plain(space.groups, scores, widths(m)), work))) for m in (found.multiple, 1)
    )
    fast = within_latency(ready, scores, drive, found, timing)
    results = [multiple, naive, *([fast] if isinstance(fast, Graph) else [])]
    ratios = measured(ready.graph, results, timing, seconds)
    shown = [
        {"macs": count(r, dims) / before, "ratio": asdict(x), "of_ideal": count(r, dims) / before / x.value}
        for r, x in zip(results, ratios, strict=True)
    ]
    heavy = sorted((x for x in found.layers if x.bound == "memory"), key=lambda x: -x.seconds)[:5]
    return Row(
        name=name,
        milliseconds=found.seconds * 1e3,
        macs=before,
        multiple=found.multiple,
        follows=found.share("compute"),
        preferred=shown[0],
        naive=shown[1],
        latency=shown[2] if isinstance(fast, Graph) else {"refused": fast},
        memory_bound=[f"{x.name} ({x.ops}, {x.share:.0%})" for x in heavy],
        seconds=time.perf_counter() - began,
    )


def uniform(group: Group) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Scores for which all groups shrink alike: the next unit to go is the dearer, the fewer are left."""
    cost = 1.0 / np.arange(group.size, 0, -1)
    return np.asarray(cost / cost.sum())


def widths(multiple: int) -> Widths:
    """Multiples of so many channels, or of a part of it that leaves a small group some choice."""
    return Widths(multiple, strict=False)


def halved(path: Allocation) -> Choice:
    return path.choice(max(SHARE, path.floor))


class Cutter:
    """Cuts choices, and repairs nothing."""

    def __init__(self, ready: Prepared) -> None:
        self._ready = ready

    def cut(self, choice: Choice) -> Cut:
        """See `contracts.maker.Maker`."""
        return without(self._ready.network, [self._ready.channels], choice)

    def candidate(self, choice: Choice) -> Candidate:
        """See `contracts.maker.Maker`."""
        cut = self.cut(choice)
        return Candidate(cut, Repaired(cut.network, "none"))


def within_latency(ready: Prepared, scores: Any, cost: Cost, found: Profile, timing: Timing) -> Graph | str:
    allowed = widths(found.multiple)
    path = Allocation(plain(ready.channels.groups, scores, allowed), cost)
    limits = (read("--latency", LATENCY_SHARE),)
    cutter = Cutter(ready)
    problem = AllocationProblem(
        ready.network, path, cutter, allowed, limits, CostMeter(ready.network, timing)
    )
    try:
        return cutter.cut(widest_within(problem)).network.graph
    except OnnxpruneError as error:
        return str(error)


def count(graph: Graph, dims: Mapping[str, int]) -> int:
    return sum(macs(graph, infer(graph, dims)).values())


def markdown(rows: Sequence[Row]) -> str:
    lines = [
        "| network | kernels, ms | MACs | multiple | time that follows MACs "
        "| half of the MACs: ratio (of ideal) | any widths: ratio (of ideal) "
        "| --latency 0.6: ratio | memory-bound |",
        "| --- " * 9 + "|",
    ]
    for r in rows:
        lasts = r.latency.get("refused") or spelled(r.latency, False)
        lines.append(
            f"| {r.name} | {r.milliseconds:.2f} | {r.macs / 1e6:.0f} M | {r.multiple} | {r.follows:.0%} "
            f"| {spelled(r.preferred)} | {spelled(r.naive)} | {lasts} | {', '.join(r.memory_bound[:3])} |"
        )
    return "\n".join(lines) + "\n"


def spelled(result: Mapping[str, Any], ideal: bool = True) -> str:
    ratio = result["ratio"]
    text = f"{ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}] at {result['macs']:.2f}"
    return f"{text} ({result['of_ideal']:.2f})" if ideal else text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0, help="to measure each model")
    parser.add_argument(
        "--widen", type=int, default=4, help="how many times the channels of the small networks"
    )
    parser.add_argument("--size", type=int, default=56, help="of the images they are fed with")
    parser.add_argument("--only", default="", help="networks whose name holds this")
    parser.add_argument("--out", type=Path, help="Markdown; a JSON file goes beside it")
    args = parser.parse_args()
    wide: list[tuple[str, Graph, dict[str, int]]] = [
        (f"{path.stem} x{args.widen}", Graph(widened(path, args.widen, args.size)), {})
        for path in sorted(MODELS.glob("digits-*.onnx"))
        if not path.stem.endswith("-bn")
    ]
    rows = []
    for name, model, dims in [*wide, *real_models()]:
        if args.only not in name:
            continue
        try:
            rows.append(
                row(name, model, Timing(threads=args.threads, dims=dims, batch=args.batch), args.seconds)
            )
        except OnnxpruneError as error:
            print(f"{name}: {error}")
            continue
        print(markdown(rows[-1:]).splitlines()[-1], f"{rows[-1].seconds:.0f} s", flush=True)
    if args.out:
        args.out.write_text(markdown(rows), encoding="utf-8")
        args.out.with_suffix(".json").write_text(
            json.dumps([asdict(r) for r in rows], indent=1), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
