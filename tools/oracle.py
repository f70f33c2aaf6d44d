#!/usr/bin/env python3
"""Judge a pruned ONNX file against its original, knowing nothing about how it was pruned.

    tools/oracle.py ORIGINAL PRUNED [--shape NAME=2,3,64,64] [--json]

The claim to prove: the pruned graph equals the original graph with the weights of what was removed set to
zero.

1. Both files pass `onnx.checker`, load in ONNX Runtime, and have the same inputs and outputs.
2. What was kept is read off the *values* of the weights. Every constant that a node reads (followed back
   through Identity, Transpose, Reshape, DequantizeLinear... to its data) is paired with the same input of
   the same node of the pruned file, and the indices kept along each axis, in their order, are found by
   matching values and verified bit for bit. Groups of a Conv and directions of an LSTM may keep positions
   of their own.
3. In the original, the removed slices are set to zero along the axes that are summed over (the input
   channels of every consumer), so that removed channels contribute nothing whatever their values. This is
   the sound mask: neither BatchNormalization's beta nor Sigmoid(0) can leak through it. Where it does not
   reproduce the pruned outputs, the producers are masked as well (output channels, biases, norm
   parameters; a variance becomes one): a product of two activations, as query times key, has no consumer
   weight, and only zero producers drop its terms. The verdict says which mask was enough. Softmax, mean
   or LayerNormalization over a pruned axis fails under both.
4. Masked original and pruned file run on the same random input, without graph optimisations. Every output
   must agree: max|a - b| / max|a| < 1e-3.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import helper, inliner, numpy_helper

Array: TypeAlias = npt.NDArray[Any]
Index: TypeAlias = npt.NDArray[np.int64]
Feed: TypeAlias = dict[str, dict[str, Any]]
Outputs: TypeAlias = dict[str, Any]

TOLERANCE = 1e-3
TINY = 1e-12
CHUNK = 1 << 20
VOTES_PER_INDEX = 12
MAX_BATCH = 4096


# ---------------------------------------------------------------- what was kept, from values


@dataclass(frozen=True)
class Block:
    """A rectangular selection; with `source`, of that index of the leading axis only."""

    source: int | None
    axes: tuple[Index, ...]


def bit_keys(a: Array, exact: bool) -> Array:
    """Bit patterns as unsigned integers; unless exact, floats are rounded to 15 bits of mantissa."""
    if not exact and a.dtype.itemsize >= 4 and a.dtype.kind == "f":
        bits = np.ascontiguousarray(a, dtype=np.float32).view(np.uint32)
        return (bits.astype(np.uint64) + 0x80) >> np.uint64(8)
    keys: Array = np.ascontiguousarray(a).view(f"u{a.itemsize}")
    return keys.astype(np.uint32) if a.itemsize < 4 else keys


def sample_positions(shape: Sequence[int]) -> Index:
    """Flat positions of an array of this shape, several for each index of each axis."""
    if math.prod(shape) <= 4096:
        return np.arange(math.prod(shape), dtype=np.int64)
    rng = np.random.default_rng(0)
    parts = []
    for axis, length in enumerate(shape):
        count = length * VOTES_PER_INDEX
        where = [rng.integers(0, n, count) for n in shape]
        where[axis] = np.repeat(np.arange(length), VOTES_PER_INDEX)
        parts.append(np.ravel_multi_index(tuple(where), tuple(shape)))
    return np.unique(np.concatenate(parts)).astype(np.int64)


def hits(wanted: Array, haystack: Array) -> Iterator[tuple[Index, Index]]:
    """(index into the sorted `wanted`, position in `haystack`) of every occurrence, chunk by chunk."""

    def bucket(keys: Array) -> Array:
        return ((keys.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(42)).astype(np.int64)

    possible = np.zeros(1 << 22, dtype=bool)
    possible[bucket(wanted)] = True
    for start in range(0, haystack.size, CHUNK):
        chunk = haystack[start : start + CHUNK]
        near = np.flatnonzero(possible[bucket(chunk)])
        slot = np.minimum(np.searchsorted(wanted, chunk[near]), wanted.size - 1)
        hit = wanted[slot] == chunk[near]
        yield slot[hit].astype(np.int64), (near[hit] + start).astype(np.int64)


def axis_votes(a: Array, b: Array) -> list[Index]:
    """For each axis, which index of `a` each index of `b` comes from; -1 where no value tells.

    A value tells where all its occurrences in `a` agree on the index. The median settles several that tell.
    """
    samples = sample_positions(b.shape)
    wanted, key = np.unique(b.ravel()[samples], return_inverse=True)
    low = np.full((a.ndim, wanted.size), np.iinfo(np.int64).max)
    high = np.full((a.ndim, wanted.size), -1)
    for slot, position in hits(wanted, a.ravel()):
        for axis, where in enumerate(np.unravel_index(position, a.shape)):
            np.minimum.at(low[axis], slot, where)
            np.maximum.at(high[axis], slot, where)
    votes = []
    for axis, index in enumerate(np.unravel_index(samples, b.shape)):
        vote = low[axis][key]
        tells = vote == high[axis][key]
        order = np.lexsort((vote[tells], index[tells]))
        at, first, count = np.unique(index[tells][order], return_index=True, return_counts=True)
        result = np.full(b.shape[axis], -1, dtype=np.int64)
        result[at] = vote[tells][order][first + count // 2]
        votes.append(result)
    return votes


def take(a: Array, axes: Sequence[Index | None]) -> Array:
    """`a[np.ix_(*axes)]`, leaving alone an axis that is None or kept whole."""
    for axis, index in enumerate(axes):
        if index is not None and not np.array_equal(index, np.arange(a.shape[axis])):
            a = np.take(a, index, axis=axis)
    return a


def match_slices(a: Array, b: Array, axis: int) -> Index | None:
    """Where each slice of `b` along `axis` lies in `a`; None if one is absent, or not zero and ambiguous."""
    rows, want = (np.moveaxis(x, axis, 0).reshape(x.shape[axis], -1) for x in (a, b))
    if rows.shape[1] != want.shape[1] or want.size == 0:
        return None
    factors = np.random.default_rng(0).integers(1, 1 << 62, rows.shape[1]).astype(np.uint64) | np.uint64(1)
    hash_a, hash_b = (x.astype(np.uint64) @ factors for x in (rows, want))
    order_a, order_b = np.argsort(hash_a, kind="stable"), np.argsort(hash_b, kind="stable")
    sorted_a, sorted_b = hash_a[order_a], hash_b[order_b]
    first = np.searchsorted(sorted_a, sorted_b)
    available = np.searchsorted(sorted_a, sorted_b, side="right") - first
    rank = np.arange(sorted_b.size) - np.searchsorted(sorted_b, sorted_b)
    asked = np.searchsorted(sorted_b, sorted_b, side="right") - np.searchsorted(sorted_b, sorted_b)
    unclear = (available < asked) | ((available > asked) & (sorted_b != 0))
    if unclear.any():
        return None
    result = np.empty(sorted_b.size, dtype=np.int64)
    result[order_b] = order_a[first + rank]
    return result


def complete(a: Array, b: Array, axes: Sequence[Index | None]) -> tuple[Index, ...] | None:
    """Find the axes that are None: kept whole where the length is unchanged, and one more by its slices."""
    known = list(axes)
    missing = [k for k, index in enumerate(known) if index is None]
    if len(missing) > 1:
        for k in missing:
            known[k] = np.arange(a.shape[k]) if a.shape[k] == b.shape[k] else None
        missing = [k for k, index in enumerate(known) if index is None]
    if len(missing) > 1:
        return None
    for k in missing:
        known[k] = match_slices(take(a, known), b, k)
    found = [index for index in known if index is not None]
    return tuple(found) if len(found) == len(known) else None


def agree(a: Array, b: Array, exact: bool) -> bool:
    """Equal bit for bit (or closely, unless exact)."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if exact or a.dtype.kind != "f":
        return np.array_equal(bit_keys(a, True), bit_keys(b, True))
    return np.allclose(a, b, rtol=1e-4, atol=1e-6 * float(np.abs(a).max(initial=0)), equal_nan=True)


def ends(n: int, m: int) -> tuple[Index, Index]:
    """The first and the last `n` of `m`: where both fit as well as a hint, the hint says nothing."""
    return np.arange(n), np.arange(m - n, m)


def select(
    a: Array, b: Array, exact: bool = True, hints: Sequence[Index] = (), guess: bool = False
) -> tuple[Index, ...] | None:
    """The indices kept along each axis, such that `b == a[np.ix_(*result)]`; None if there are none.

    `hints` are index lists seen elsewhere, tried where values repeat too much to tell by themselves. Where
    several of them fit (a scale of ones fits all), none can be trusted, and only a guess is the first.
    """
    if a.ndim != b.ndim or a.dtype != b.dtype or 0 in (a.size, b.size):
        return None
    if agree(a, b, exact):
        return tuple(np.arange(n) for n in a.shape)
    keys_a, keys_b = bit_keys(a, exact), bit_keys(b, exact)
    votes: list[Index | None] = [None if (v < 0).any() else v for v in axis_votes(keys_a, keys_b)]

    def fitting(axes: Sequence[Index | None]) -> tuple[Index, ...] | None:
        widest_within = all(v is None or v.max() < a.shape[k] for k, v in enumerate(axes))
        kept = complete(keys_a, keys_b, axes) if widest_within else None
        return kept if kept is not None and agree(take(a, kept), b, exact) else None

    told = fitting(votes)
    if told is not None:
        return told
    tries = [
        [*votes[:k], index, *votes[k + 1 :]]
        for k, (n, m) in enumerate(zip(b.shape, a.shape, strict=True))
        for index in (*(h for h in hints if h.size == n != m), *(ends(n, m) if n != m and hints else ()))
    ]
    found = {tuple(k.tobytes() for k in kept): kept for axes in tries if (kept := fitting(axes)) is not None}
    return next(iter(found.values())) if len(found) == 1 or (found and guess) else None


def select_blocks(
    a: Array, b: Array, exact: bool = True, hints: Sequence[Index] = (), guess: bool = False
) -> list[Block] | None:
    """As `select`, but each index of the leading axis (a group, a direction) may keep its own selection."""
    whole = select(a, b, exact, hints, guess)
    if whole is not None:
        return [Block(None, whole)]
    if a.ndim != b.ndim or a.ndim < 2 or not 1 < len(a) <= MAX_BATCH or a.dtype != b.dtype or b.size == 0:
        return None
    blocks = []
    for part, source in zip(b, axis_votes(bit_keys(a, exact), bit_keys(b, exact))[0], strict=True):
        axes = select(a[source], part, exact, hints, guess) if source >= 0 else None
        if axes is None:
            return None
        blocks.append(Block(int(source), axes))
    return blocks


def removed(shape: Sequence[int], blocks: Sequence[Block], axes: Iterable[int]) -> npt.NDArray[np.bool_]:
    """True where an element lies in a removed slice along one of `axes` (negative: whatever the layout)."""
    gone = np.zeros(shape, dtype=bool)
    wanted = set(axes)
    for block in blocks:
        part = gone if block.source is None else gone[block.source]
        for axis in wanted:
            if -axis <= part.ndim:
                lost = np.setdiff1d(np.arange(part.shape[axis]), block.axes[axis])
                np.moveaxis(part, axis, 0)[lost] = True
    if -len(shape) in wanted and blocks[0].source is not None:
        gone[np.setdiff1d(np.arange(shape[0]), [block.source for block in blocks])] = True
    return gone


# ---------------------------------------------------------------- where constants are read

# Nodes that only move (or dequantise) values: a weight is followed through them to the node that computes.
TRANSPARENT = {
    "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Cast", "CastLike", "Slice",
    "Gather", "Split", "Concat", "Expand", "Tile", "Dropout", "DequantizeLinear", "QuantizeLinear",
}  # fmt: skip
# Operators that sum over an axis of a weight -> the inputs that may be weights.
CONV = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "DeformConv": 1, "ConvTranspose": 1, "QLinearConv": 3}
GEMM = {"Gemm": (0, 1), "FusedGemm": (0, 1)}
MATMUL = {
    "MatMul": (0, 1), "FusedMatMul": (0, 1), "MatMulInteger": (0, 1), "MatMulIntegerToFloat": (0, 1),
    "DynamicQuantizeMatMul": (0, 1), "QLinearMatMul": (0, 3),
}  # fmt: skip
RECURRENT = {"LSTM": (1, 2), "GRU": (1, 2), "RNN": (1, 2)}
# Inputs zeroed when producers are masked (None: all of them). Others (slopes, divisors, limits) stay.
ZEROABLE: dict[str, tuple[int, ...] | None] = {
    **dict.fromkeys(("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "Attention"), (1, 2)),
    **dict.fromkeys(RECURRENT, (1, 2, 3, 5, 6)),
    **MATMUL,
    **dict.fromkeys(("Einsum", "Add", "Sub", "Sum", "Mul", "Concat", "BiasGelu"), None),
    **dict.fromkeys(("InstanceNormalization", "LayerNormalization", "GroupNormalization"), (1, 2)),
    **dict.fromkeys(("RMSNormalization", "SimplifiedLayerNormalization", "ConvInteger"), (1,)),
    **dict.fromkeys(("Gather", "GatherElements", "GatherND", "Expand", "Tile", "Slice", "Pad", "Div"), (0,)),
    "BatchNormalization": (1, 2, 3, 4),
    "DeformConv": (1, 3),
    "MultiHeadAttention": (3,),
    "SkipLayerNormalization": (2, 3, 4),
    "SkipSimplifiedLayerNormalization": (2, 3),
    "QLinearConv": (3, 8),
}
# Weight input -> its zero point, for operators on quantised values.
ZERO_POINT = {
    ("QLinearConv", 3): 5, ("QLinearMatMul", 0): 2, ("QLinearMatMul", 3): 5, ("ConvInteger", 1): 3,
    ("MatMulInteger", 0): 2, ("MatMulInteger", 1): 3, ("DynamicQuantizeMatMul", 1): 3,
}  # fmt: skip


@dataclass
class Site:
    """A constant as one node reads it. `direct`: only moved on its way there, never computed."""

    position: int
    node: onnx.NodeProto
    index: int
    value: Array
    direct: bool

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self.node.op_type} {self.node.name or self.node.output[0]!r} input {self.index}"


def attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    """The value of a node's attribute."""
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def einsum_terms(node: onnx.NodeProto) -> tuple[list[str], str]:
    """Operand letters and output letters of an Einsum."""
    equation = attribute(node, "equation", b"").decode().replace(" ", "")
    left, arrow, right = equation.partition("->")
    if not arrow:
        right = "".join(sorted(c for c, n in Counter(left).items() if n == 1 and c.isalpha()))
    return left.split(","), right


def letter_lengths(term: str, shape: Sequence[int]) -> dict[str, int]:
    """The lengths that an Einsum operand gives its letters."""
    left, _, right = term.partition("...")
    return dict(zip(left, shape, strict=False)) | dict(zip(right[::-1], shape[::-1], strict=False))


def summed_axes(node: onnx.NodeProto, index: int, ndim: int) -> tuple[int, ...]:
    """The axes (negative) of a node's constant input that the node sums over."""
    op = node.op_type
    if op in CONV and index == CONV[op]:
        return (-ndim,) if op == "ConvTranspose" else (1 - ndim,)
    if index in GEMM.get(op, ()) or index in MATMUL.get(op, ()):
        second = index > 0
        transposed = bool(attribute(node, "transB" if second else "transA", 0))
        return (-2,) if transposed != second and ndim > 1 else (-1,)
    if index in RECURRENT.get(op, ()):
        return (-1,)
    if op == "Attention" and node.domain and index == 1:
        return (-2,)
    if op == "Einsum":
        terms, output = einsum_terms(node)
        letters = terms[index].rpartition("...")[2]
        return tuple(k - len(letters) for k, c in enumerate(letters) if c not in output)
    return ()


def constant_value(node: onnx.NodeProto) -> Array | None:
    """The value of a Constant node; None for strings and sparse tensors."""
    for a in node.attribute:
        if a.name == "value":
            return numpy_helper.to_array(a.t)
        if a.name in ("value_float", "value_floats", "value_int", "value_ints"):
            kind = np.float32 if "float" in a.name else np.int64
            return np.asarray(helper.get_attribute_value(a), dtype=kind)
    return None


def stored_constants(graph: onnx.GraphProto) -> dict[str, Array]:
    """Initializers and Constant nodes by name."""
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:
        value = constant_value(node) if node.op_type == "Constant" else None
        if value is not None:
            values[node.output[0]] = value
    return values


def computed_constants(model: onnx.ModelProto, values: dict[str, Array]) -> tuple[dict[str, Array], set[str]]:
    """Tensors computed from constants only, and the names of the constants and of the merely moved ones."""
    constant, moved, nodes = set(values), set(values), []
    for node in model.graph.node:
        inputs = [x for x in node.input if x]
        plain = not any(a.HasField("g") or a.graphs for a in node.attribute)
        if inputs and plain and constant.issuperset(inputs) and "Random" not in node.op_type:
            nodes.append(node)
            constant.update(node.output)
            if node.op_type in TRANSPARENT and moved.issuperset(inputs):
                moved.update(node.output)
    consumers = [n for n in model.graph.node if not moved.issuperset(n.output)]
    produced = {x for n in nodes for x in n.output if x}
    wanted = sorted(produced & {x for n in consumers for x in n.input})
    if not wanted:
        return {}, moved
    used = {x for n in nodes for x in n.input if x in values}
    graph = helper.make_graph(nodes, "constants", [], [onnx.ValueInfoProto(name=x) for x in wanted])
    graph.initializer.extend(numpy_helper.from_array(values[x], x) for x in sorted(used))
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=max(model.ir_version, 4))
    return dict(zip(wanted, session(part).run(wanted, {}), strict=True)), moved


def is_weight(dtype: np.dtype[Any]) -> bool:
    """Floats and 8-bit integers; wider integers are shapes and indices."""
    return dtype.kind in "fV" or (dtype.itemsize == 1 and dtype.kind in "iu")


def sites_of(model: onnx.ModelProto) -> list[Site]:
    """Every constant with several float or 8-bit values that a computing node of the main graph reads."""
    stored = stored_constants(model.graph)
    computed, moved = computed_constants(model, stored)
    values = stored | computed
    sites = []
    for position, node in enumerate(model.graph.node):
        if node.op_type == "Constant" or (node.output and moved.issuperset(node.output)):
            continue
        for index, name in enumerate(node.input):
            value = values.get(name)
            if isinstance(value, np.ndarray) and value.size > 1 and is_weight(value.dtype):
                sites.append(Site(position, node, index, value, name in moved))
    return sites


def paired(original: onnx.ModelProto, pruned: onnx.ModelProto) -> Iterator[tuple[Site, Site]]:
    """The same input of the same node in both models; a node is found by its name, else its first output."""

    def keys(site: Site, names: Counter[str]) -> list[tuple[str, int]]:
        unique = site.node.name and names[site.node.name] == 1
        name = [f"node {site.node.name}"] if unique else []
        return [(key, site.index) for key in (*name, f"output {site.node.output[0]}")]

    counts = [Counter(n.name for n in m.graph.node) for m in (original, pruned)]
    table = {key: site for site in sites_of(pruned) for key in keys(site, counts[1])}
    for site in sites_of(original):
        twin = next((table[k] for k in keys(site, counts[0]) if k in table), None)
        if twin is not None and twin.node.op_type == site.node.op_type:
            yield site, twin


def layouts(site: Site, twin: Site) -> tuple[Array, Array]:
    """Both values, groups of a Conv as a leading axis of their own, without leading axes of length one."""
    a, b = site.value, twin.value
    groups = [attribute(s.node, "group", 1) for s in (site, twin)]
    if CONV.get(site.node.op_type) == site.index and max(groups) > 1 and len(b) % groups[1] == 0:
        return a.reshape(groups[0], -1, *a.shape[1:]), b.reshape(groups[1], -1, *b.shape[1:])
    while min(a.ndim, b.ndim) > 1 and len(a) == len(b) == 1:
        a, b = a[0], b[0]
    return a, b


# ---------------------------------------------------------------- masks


@dataclass
class Change:
    """A constant that differs between the models, in which shape it was compared, and what was kept of it."""

    site: Site
    shape: tuple[int, ...]
    blocks: list[Block]

    def masked(self, producers: bool, fill: Array) -> Array | None:
        """The original constant with its removed slices filled; None where there is nothing to mask."""
        node, value = self.site.node, self.site.value
        axes = summed_axes(node, self.site.index, value.ndim)
        allowed = ZEROABLE.get(node.op_type, ())
        if producers and self.site.direct and (allowed is None or self.site.index in allowed):
            axes = tuple(range(-len(self.shape), 0))
        gone = removed(self.shape, self.blocks, axes).reshape(value.shape)
        return np.where(gone, fill.astype(value.dtype), value) if gone.any() else None


@dataclass
class Changes:
    """All the differences between the constants of two models, and what could not be recovered.

    `altered` holds values that the original lacks; `unclear` repeats too much: it matters if outputs differ.
    """

    found: list[Change] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)


def compare_constants(original: onnx.ModelProto, pruned: onnx.ModelProto, guess: bool = False) -> Changes:
    """Recover what was kept of every constant; where its own values cannot tell, try what others kept."""
    result, pending = Changes(), []
    pool: dict[tuple[int, int], dict[bytes, Index]] = {}
    for site, twin in paired(original, pruned):
        a, b = layouts(site, twin)
        if a.shape == b.shape and agree(a, b, exact=True):
            continue
        blocks = select_blocks(a, b)
        if blocks is None:
            pending.append((site, a, b))
            continue
        result.found.append(Change(site, a.shape, blocks))
        for block in blocks:
            for length, index in zip(a.shape[a.ndim - len(block.axes) :], block.axes, strict=True):
                pool.setdefault((length, index.size), {})[index.tobytes()] = index
    for site, a, b in pending:
        pairs = dict.fromkeys(zip(a.shape, b.shape, strict=False))
        hints = [index for pair in pairs for index in pool.get(pair, {}).values()]
        blocks = select_blocks(a, b, exact=site.direct, hints=hints, guess=guess)
        if blocks is not None:
            result.found.append(Change(site, a.shape, blocks))
        elif site.direct:
            foreign = not np.isin(b, a).all()
            (result.altered if foreign else result.unclear).append(site.name)
    return result


def fill_value(site: Site, values: dict[str, Array]) -> Array:
    """What counts as nothing at this input: zero; one for a variance; a quantised weight's zero point."""
    op = site.node.op_type
    if op == "BatchNormalization" and site.index == 4:
        return np.ones(())
    where = ZERO_POINT.get((op, site.index), len(site.node.input))
    zero = values.get(site.node.input[where]) if where < len(site.node.input) else None
    if zero is None:
        return np.zeros(())
    per_row = zero.size > 1 and op in CONV
    return zero.reshape(-1, *[1] * (site.value.ndim - 1)) if per_row else zero


def masked_model(original: onnx.ModelProto, changes: Sequence[Change], producers: bool) -> onnx.ModelProto:
    """A copy of the original in which nodes that read removed slices have masked constants of their own."""
    model = onnx.ModelProto()
    model.CopyFrom(original)
    model.ir_version = max(model.ir_version, 4)
    values = stored_constants(model.graph)
    for number, change in enumerate(changes):
        mask = change.masked(producers, fill_value(change.site, values))
        if mask is not None:
            name = f"oracle.masked.{number}"
            model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(mask), name))
            model.graph.node[change.site.position].input[change.site.index] = name
    return model


# ---------------------------------------------------------------- running


def session(model: onnx.ModelProto | str, profile: str = "", threads: int = 0, optimise: bool = False) -> Any:
    """A quiet CPU session; without graph optimisations unless asked for."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    if not optimise:  # packed weights have no shapes in a profile
        options.add_session_config_entry("session.disable_prepacking", "1")
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    source = model if isinstance(model, str) else model.SerializeToString()
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def samples(feed: Feed, seed: int = 0) -> dict[str, Array]:
    """Random inputs: standard normal floats, integers below `high`."""
    rng = np.random.default_rng(seed)
    inputs: dict[str, Array] = {}
    for name, spec in feed.items():
        dtype, shape = np.dtype(spec["dtype"]), tuple(spec["shape"])
        if dtype.kind == "f":
            inputs[name] = rng.standard_normal(shape).astype(dtype)
        else:
            inputs[name] = rng.integers(0, int(spec.get("high", 2)), shape).astype(dtype)
    return inputs


def default_feed(model: onnx.ModelProto, shapes: dict[str, list[int]]) -> Feed:
    """What to feed a model: its declared inputs, 2 for a symbolic first dimension and 16 for another one."""
    constants = {t.name for t in model.graph.initializer}
    feed: Feed = {}
    for value in model.graph.input:
        if value.name not in constants:
            kind = value.type.tensor_type
            shape = [d.dim_value or (16 if k else 2) for k, d in enumerate(kind.shape.dim)]
            dtype = helper.tensor_dtype_to_np_dtype(kind.elem_type).name
            feed[value.name] = {"shape": shapes.get(value.name, shape), "dtype": dtype}
    return feed


def run(model: onnx.ModelProto, inputs: dict[str, Array], threads: int = 0) -> Outputs:
    """All outputs of a model."""
    names = [o.name for o in model.graph.output]
    return dict(zip(names, session(model, threads=threads).run(names, inputs), strict=True))


def run_counting(model: onnx.ModelProto, inputs: dict[str, Array], threads: int = 0) -> tuple[Outputs, int]:
    """All outputs of a model, and its multiply-accumulates, from the shapes in ONNX Runtime's own profile."""
    nodes = {n.name: n for n in all_nodes(model.graph) if n.name}
    names = [o.name for o in model.graph.output]
    with tempfile.TemporaryDirectory() as folder:
        runner = session(model, profile=f"{folder}/profile", threads=threads)
        outputs = dict(zip(names, runner.run(names, inputs), strict=True))
        events = json.loads(Path(runner.end_profiling()).read_text())
    total = 0
    for event in events:
        name, is_kernel, _ = event["name"].partition("_kernel_time")
        if event.get("cat") == "Node" and is_kernel:
            total += event_macs(event["args"], nodes.get(name))
    return outputs, total


def event_macs(event: dict[str, Any], node: onnx.NodeProto | None) -> int:
    """Multiply-accumulates of one executed node, from its runtime shapes."""
    op, size = event["op_name"], math.prod
    ins, outs = (
        [next(iter(shape.values())) for shape in event[f"{side}_type_shape"]] for side in ("input", "output")
    )
    if op in CONV:
        return int(size(ins[0] if op == "ConvTranspose" else outs[0]) * size(ins[CONV[op]][1:]))
    if op in GEMM:
        return int(size(ins[0]) // max(outs[0][0], 1) * size(outs[0]))
    if op in MATMUL:
        transposed = node is not None and attribute(node, "transA", 0)
        return int(size(outs[0]) * ins[0][-2 if transposed else -1])
    if op in RECURRENT:
        return int(size(ins[0][:2]) * (size(ins[1]) + size(ins[2])))
    if op == "Einsum" and node is not None and len(ins) > 1:
        terms, output = einsum_terms(node)
        lengths = {c: n for t, s in zip(terms, ins, strict=True) for c, n in letter_lengths(t, s).items()}
        return int(size(outs[0]) * size(n for c, n in lengths.items() if c not in output))
    return 0


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes of a graph and of the bodies inside it."""
    for node in graph.node:
        yield node
        for a in node.attribute:
            for body in [*([a.g] if a.HasField("g") else []), *a.graphs]:
                yield from all_nodes(body)


def count_parameters(graph: onnx.GraphProto) -> int:
    """Elements of all float and 8-bit tensors in initializers and Constant nodes."""
    tensors = list(graph.initializer)
    for node in all_nodes(graph):
        for a in node.attribute:
            tensors += [a.t] if node.op_type == "Constant" and a.name == "value" else []
            tensors += a.g.initializer
    dtypes = ((t, helper.tensor_dtype_to_np_dtype(t.data_type)) for t in tensors if t.data_type)
    return sum(math.prod(t.dims) for t, d in dtypes if is_weight(d))


def relative_error(expected: Any, got: Any) -> float:
    """max|a - b| / max|a|; of integers the share that differs; infinite if shapes or non-finites differ."""
    if isinstance(expected, list):
        if not isinstance(got, list) or len(expected) != len(got):
            return math.inf
        return max((relative_error(a, b) for a, b in zip(expected, got, strict=True)), default=0.0)
    a, b = np.asarray(expected), np.asarray(got)
    if a.shape != b.shape or a.dtype != b.dtype:
        return math.inf
    if a.dtype.kind != "f":
        return float(np.mean(a != b)) if a.size else 0.0
    finite = np.isfinite(a)
    if not np.array_equal(np.where(finite, 0, a), np.where(np.isfinite(b), 0, b), equal_nan=True):
        return math.inf
    x, y = a[finite].astype(np.float64), b[finite].astype(np.float64)
    return float(np.abs(x - y).max(initial=0) / max(np.abs(x).max(initial=0), TINY))


def largest_error(expected: Outputs, got: Outputs) -> float:
    """The largest relative error among the outputs."""
    return max((relative_error(value, got[name]) for name, value in expected.items()), default=0.0)


# ---------------------------------------------------------------- the verdict


@dataclass
class Verdict:
    """exact, unchanged, wrong or broken; and what it rests on."""

    status: str
    reason: str = ""
    error: float = math.inf
    mask: str = ""
    effect: float = 0.0
    params: tuple[int, int] = (0, 0)
    macs: tuple[int, int] = (0, 0)
    unclear: list[str] = field(default_factory=list)


def one_line(problem: Exception) -> str:
    """The first line of an exception, with its kind."""
    return f"{type(problem).__name__}: {(str(problem).strip().splitlines() or [''])[0]}"[:300]


def checks(path: str) -> bool:
    """Whether a file passes the full checker (types and shapes of every node included)."""
    try:
        onnx.checker.check_model(path, full_check=True)
    except Exception:  # the checker raises many kinds; which one does not matter here
        return False
    return True


def load(path: str) -> onnx.ModelProto:
    """A model with its local functions inlined, so that every node is in sight."""
    model = onnx.load(path)
    return inliner.inline_local_functions(model) if model.functions else model


def broken(original_path: str, pruned_path: str, inputs: dict[str, Array], threads: int) -> str:
    """Why the pruned file cannot be used; empty if it can."""
    try:
        onnx.checker.check_model(pruned_path, full_check=checks(original_path))
        runner = session(pruned_path, threads=threads, optimise=True)
        pair = (session(original_path), runner)
        names = [[x.name for x in (*s.get_inputs(), *s.get_outputs())] for s in pair]
        runner.run(None, inputs)
    except Exception as problem:  # whatever the checker or the runtime raises means the same: not usable
        return one_line(problem)
    return "" if names[0] == names[1] else f"inputs and outputs {names[0]} became {names[1]}"


def attempts(original: onnx.ModelProto, pruned: onnx.ModelProto) -> Iterator[tuple[Changes, bool]]:
    """What was kept, and whether to mask producers, too: guesses come last.

    Whatever a mask rests on, one that reproduces the outputs, and fits all values, is the proof.
    """
    for guess in (False, True):
        changes = compare_constants(original, pruned, guess)
        yield changes, False
        yield changes, True


def judge(
    original_path: str, pruned_path: str, feed: Feed, tolerance: float = TOLERANCE, threads: int = 0
) -> Verdict:
    """Judge a pair of files. Raises only if the original itself cannot be run."""
    inputs = samples(feed)
    original = load(original_path)
    plain, macs = run_counting(original, inputs, threads)
    params = count_parameters(original.graph)
    reason = broken(original_path, pruned_path, inputs, threads)
    try:
        pruned = load(pruned_path)
        got, macs_left = run_counting(pruned, inputs, threads)
    except Exception as problem:  # the optimised run may hide a width that does not fit
        reason = reason or one_line(problem)
    if reason:
        return Verdict("broken", reason, params=(params, params), macs=(macs, macs))
    verdict = Verdict("wrong", params=(params, count_parameters(pruned.graph)), macs=(macs, macs_left))
    for changes, producers in attempts(original, pruned):
        expected = run(masked_model(original, changes.found, producers), inputs, threads)
        error = largest_error(expected, got)
        if error < verdict.error:
            verdict.error, verdict.mask = error, "producers" if producers else "consumers"
            verdict.effect, verdict.unclear = largest_error(plain, expected), changes.unclear
        if error < tolerance:
            break
    if changes.altered:
        verdict.reason = f"values that the original lacks: {', '.join(changes.altered[:3])}"
    elif verdict.error >= tolerance:
        unclear = f"; not recoverable: {', '.join(changes.unclear[:3])}" if changes.unclear else ""
        verdict.reason = f"outputs differ by {verdict.error:.2g}{unclear}"
    else:
        verdict.status = "exact" if changes.found or verdict.params[1] < verdict.params[0] else "unchanged"
    return verdict


def shape_option(text: str) -> tuple[str, list[int]]:
    """Parse NAME=2,3,64,64."""
    name, _, dims = text.rpartition("=")
    return name, [int(d) for d in dims.split(",")]


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: 0 exact or unchanged, 1 wrong or broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("original")
    parser.add_argument("pruned")
    parser.add_argument("--shape", metavar="NAME=DIMS", type=shape_option, action="append", default=[])
    feed_help = 'JSON: {"x": {"shape": [2, 3], "dtype": "int64", "high": 9}}'
    parser.add_argument("--feed", type=json.loads, help=feed_help)
    parser.add_argument("--tolerance", type=float, default=TOLERANCE)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the verdict as JSON")
    options = parser.parse_args(argv)
    model = onnx.load(options.original, load_external_data=False)
    feed = options.feed or default_feed(model, dict(options.shape))
    verdict = judge(options.original, options.pruned, feed, options.tolerance, options.threads)
    if options.json:
        print(json.dumps(asdict(verdict)))
    else:
        print(
            f"{verdict.status}: error {verdict.error:.2g}, mask: {verdict.mask or 'none'}. {verdict.reason}"
        )
        for what, (before, after) in (("parameters", verdict.params), ("MACs", verdict.macs)):
            print(f"{what:11} {before:>15,} -> {after:>15,}  ({1 - after / max(before, 1):.1%} less)")
    return 0 if verdict.status in ("exact", "unchanged") else 1


if __name__ == "__main__":
    sys.exit(main())
