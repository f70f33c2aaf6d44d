"""Normalisations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..lengths import summed_axes
from ..tape import BOOL, Tensor
from ..vjp import Cotangent, Rule, Undifferentiable, Vjp

_EPSILON = 1e-5


def batch_norm(v: Vjp) -> Sequence[Cotangent]:
    """BatchNormalization at inference: (x - mean) / sqrt(var + epsilon) * scale + bias, for each channel.

    Raises:
        Undifferentiable: it is in training mode.
    """
    if v.attr("training_mode", 0) or len([o for o in v.node.outputs if o]) > 1:
        raise Undifferentiable("BatchNormalization is in training mode")
    rank, dtype = v.rank(), v.dtype
    axes = [a for a in range(rank) if a != 1]
    scale, mean, variance = (v.x(i).cast(dtype) for i in (1, 3, 4))
    rate = 1.0 / (variance + v.attr("epsilon", _EPSILON)).map("Sqrt")
    slope = scale * rate
    trailing = range(1, rank - 1)
    total = v.dy.sum(axes) if any(v.wants(i) for i in (2, 3)) else None
    along = None
    if v.wants(1) or v.wants(4):
        centred = v.x() - mean.unsqueeze(*trailing)
        along = (v.dy * centred).sum(axes)
    return [
        v.dy * slope.unsqueeze(*trailing) if v.wants(0) else None,
        along * rate if along is not None and v.wants(1) else None,
        total if v.wants(2) else None,
        -(total * slope) if total is not None and v.wants(3) else None,
        along * slope * rate * rate * -0.5 if along is not None and v.wants(4) else None,
    ]


@dataclass(frozen=True)
class Normalised:
    """A tensor brought to mean 0 and variance 1 along some axes.

    Attributes:
        value: in the shape of the tensor.
        rate: 1 / standard deviation.
        axes: the axes.
        centred: whether the mean was taken off.
    """

    value: Tensor
    rate: Tensor
    axes: list[int]
    centred: bool

    def back(self, cotangent: Tensor) -> Tensor:
        """The cotangent of the tensor from that of `value`."""
        along = (cotangent * self.value).mean(self.axes, keep=True)
        rest = cotangent - self.value * along
        if self.centred:
            rest = rest - cotangent.mean(self.axes, keep=True)
        return rest * self.rate


def normalised(x: Tensor, axes: list[int], epsilon: float, *, centred: bool = True) -> Normalised:
    """Normalise a tensor along axes; the root of the mean square alone if it is not centred."""
    middle = x - x.mean(axes, keep=True) if centred else x
    square = (middle * middle).mean(axes, keep=True)
    rate = 1.0 / (square + epsilon).map("Sqrt")
    return Normalised(middle * rate, rate, axes, centred)


def layer_norm(v: Vjp) -> Sequence[Cotangent]:
    """LayerNormalization, and RMSNormalization by either name: along the axes from `axis` on."""
    centred = v.node.op == "LayerNormalization"
    rank = v.rank()
    axes = list(range(v.axis(-1), rank))
    found = normalised(v.x(), axes, v.attr("epsilon", _EPSILON), centred=centred)
    dy = v.dy
    return [
        found.back(dy * v.x(1)) if v.wants(0) else None,
        v.collapsed(dy * found.value, 1, v.lengths()) if v.wants(1) else None,
        v.collapsed(dy, 2, v.lengths()) if v.wants(2) else None,
    ]


def instance_norm(v: Vjp) -> Sequence[Cotangent]:
    """InstanceNormalization: each channel of each sample along its positions."""
    rank = v.rank()
    axes, trailing = list(range(2, rank)), range(1, rank - 1)
    found = normalised(v.x(), axes, v.attr("epsilon", _EPSILON))
    others = [0, *axes]
    return [
        found.back(v.dy * v.x(1).unsqueeze(*trailing)) if v.wants(0) else None,
        (v.dy * found.value).sum(others) if v.wants(1) else None,
        v.dy.sum(others) if v.wants(2) else None,
    ]


def group_norm(v: Vjp) -> Sequence[Cotangent]:
    """GroupNormalization; before opset 21 scale and bias are those of groups, then of channels."""
    groups = v.attr("num_groups")
    rank, channels = v.rank(), v.lengths()[1]
    if channels is None:
        raise Undifferentiable("the channels of GroupNormalization are not fixed")
    x = v.x().reshape([0, groups, -1])
    found = normalised(x, [2], v.attr("epsilon", _EPSILON))
    value, others, trailing = v.reshaped(found.value), [0, *range(2, rank)], range(1, rank - 1)
    by_group = v.opset < 21 and groups != channels
    scale = v.x(1)
    if by_group:
        scale = scale.unsqueeze(1).expand([groups, channels // groups]).reshape([-1])
    inner = (v.dy * scale.unsqueeze(*trailing)).reshape([0, groups, -1])

    def summed(value: Tensor) -> Tensor:
        total = value.sum(others)
        return total.reshape([groups, -1]).sum([1]) if by_group else total

    return [
        v.reshaped(found.back(inner)) if v.wants(0) else None,
        summed(v.dy * value) if v.wants(1) else None,
        summed(v.dy) if v.wants(2) else None,
    ]


def lp_normalisation(v: Vjp) -> Sequence[Cotangent]:
    """X / ||x||: the part of the cotangent along y goes."""
    axis, order = v.axis(-1), v.attr("p", 2)
    if order not in (1, 2):
        raise Undifferentiable(f"LpNormalization of order {order}")
    norm = v.x().reduce(f"ReduceL{order}", [axis], keep=True)
    direction = v.y() if order == 2 else v.x().sign()
    along = (v.dy * v.y()).sum([axis], keep=True)
    return [(v.dy - direction * along) / norm]


def mean_variance(v: Vjp) -> Sequence[Cotangent]:
    """MeanVarianceNormalization, whose epsilon is 1e-9 and stands beside the deviation: next to nothing."""
    axes = [a % v.rank() for a in v.attr("axes", [0, 2, 3])]
    return [normalised(v.x(), axes, 1e-12).back(v.dy)]


def softmax(v: Vjp) -> Sequence[Cotangent]:
    """Y (dy - sum of dy y); a row that was masked whole and is replaced behind, as NaN, has no gradient."""
    axes, y = _softmax_axes(v), v.y()
    if v.is_read_by("IsNaN"):
        broken = v.tape.emit("IsNaN", y, dtype=BOOL)
        y = v.tape.emit("Where", broken, y.like(0.0), y, dtype=y.dtype)
    share = v.dy * y
    return [share - y * share.sum(axes, keep=True)]


def log_softmax(v: Vjp) -> Sequence[Cotangent]:
    """Dy - softmax(x) sum of dy."""
    return [v.dy - v.y().map("Exp") * v.dy.sum(_softmax_axes(v), keep=True)]


def _softmax_axes(v: Vjp) -> list[int]:
    """One axis; before opset 13 all from there on."""
    if v.opset >= 13:
        return [v.axis(-1)]
    return list(range(v.axis(1), v.rank()))


def local_response(v: Vjp) -> Sequence[Cotangent]:
    """LRN: y = x s^-beta with s = bias + alpha / size sum of squares of neighbouring channels."""
    size, beta, rank = v.attr("size"), v.attr("beta", 0.75), v.rank()
    if rank != 4:
        raise Undifferentiable("LRN of other than images")
    share = v.attr("alpha", 1e-4) / size
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2

    def neighbours(value: Tensor, low: int, high: int) -> Tensor:
        padded = value.unsqueeze(1).pad([0, 0, low, 0, 0, 0, 0, high, 0, 0])
        means = padded.map("AveragePool", kernel_shape=[size, 1, 1])
        return means.squeeze(1) * float(size)

    x = v.x()
    base = neighbours(x * x, before, after) * share + v.attr("bias", 1.0)
    scaled = v.dy * base.power(-beta)
    back = neighbours(v.dy * v.y() / base, after, before) * (2 * share * beta)
    return [scaled - x * back]


def skip_norm(v: Vjp) -> Sequence[Cotangent]:
    """Skip(Simplified)LayerNormalization: of x + skip + bias; the sum may be an output, too."""
    simplified = v.node.op.endswith("SkipSimplifiedLayerNormalization")
    bias_at = 3 if simplified else 4
    x = v.x(0) + v.x(1)
    if v.has(bias_at):
        x = x + v.x(bias_at)
    if any(c is not None for c in v.cotangents[1:3]):
        raise Undifferentiable(f"the statistics of {v.node.op} are read")
    dy, direct = v.cotangents[0], v.cotangents[3] if len(v.cotangents) > 3 else None
    axis, lengths = v.rank() - 1, v.lengths(0)
    total, by_scale, by_shift = direct, None, None
    if dy is not None:
        found = normalised(x, [axis], v.attr("epsilon", 1e-12), centred=not simplified)
        back = found.back(dy * v.x(2))
        total = back if direct is None else back + direct
        by_scale = v.collapsed(dy * found.value, 2, lengths) if v.wants(2) else None
        by_shift = v.collapsed(dy, 3, lengths) if not simplified and v.wants(3) else None
    if total is None:
        return []
    by_bias = v.collapsed(total, bias_at, lengths) if v.wants(bias_at) else None
    skip = v.collapsed(total, 1, lengths) if summed_axes(v.lengths(1), lengths) else total
    more: list[Cotangent] = [by_bias] if simplified else [by_shift, by_bias]
    return [total, skip, by_scale, *more]


RULES: dict[str, Rule] = {
    "BatchNormalization": batch_norm,
    "GroupNormalization": group_norm,
    "InstanceNormalization": instance_norm,
    "LRN": local_response,
    "LayerNormalization": layer_norm,
    "LogSoftmax": log_softmax,
    "LpNormalization": lp_normalisation,
    "MeanVarianceNormalization": mean_variance,
    "RMSNormalization": layer_norm,
    "SimplifiedLayerNormalization": layer_norm,
    "Softmax": softmax,
    "com.microsoft:SkipLayerNormalization": skip_norm,
    "com.microsoft:SkipSimplifiedLayerNormalization": skip_norm,
}
