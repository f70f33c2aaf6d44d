"""Products of matrices."""

from __future__ import annotations

import string
from collections.abc import Sequence

from ..lengths import Lengths
from ..tape import Tensor
from ..vjp import Cotangent, Rule, Undifferentiable, Vjp


def gemm(v: Vjp) -> Sequence[Cotangent]:
    """Alpha A B + beta C, with A and B perhaps transposed: every product is a Gemm again."""
    alpha, beta = v.attr("alpha", 1.0), v.attr("beta", 1.0)
    left, right = v.attr("transA", 0), v.attr("transB", 0)
    a, b, dy = v.x(0), v.x(1), v.dy

    def product(x: Tensor, y: Tensor, trans_x: int, trans_y: int) -> Tensor:
        return v.tape.emit("Gemm", x, y, alpha=alpha, transA=trans_x, transB=trans_y)

    by_a = by_b = None
    if v.wants(0):
        by_a = product(b, dy, right, 1) if left else product(dy, b, 0, 1 - right)
    if v.wants(1):
        by_b = product(dy, a, 1, left) if right else product(a, dy, 1 - left, 0)
    return [by_a, by_b, v.collapsed(dy * beta, 2) if v.wants(2) else None]


def matmul(v: Vjp) -> Sequence[Cotangent]:
    """Products with the transposed other operand; a vector counts as a matrix of one row or column."""
    ranks = v.rank(0), v.rank(1)
    a, b, dy = v.x(0), v.x(1), v.dy
    lengths = [v.lengths(0), v.lengths(1)]
    result = v.out_lengths()
    if ranks[1] == 1:
        b, dy = b.unsqueeze(1), dy.unsqueeze(len(result))
        lengths[1], result = (*lengths[1], 1), (*result, 1)
    if ranks[0] == 1:
        a, dy = a.unsqueeze(0), dy.unsqueeze(len(result) - 1)
        lengths[0], result = (1, *lengths[0]), (*result[:-1], 1, result[-1])
    by_a = by_b = None
    if v.wants(0):
        product = dy.matmul(swapped(b, len(lengths[1])))
        by_a = _as_input(v, 0, product, (*result[:-1], lengths[0][-1]), lengths[0])
    if v.wants(1):
        if len(lengths[1]) == 2 and len(lengths[0]) > 2 and None not in (lengths[0][-1], result[-1]):
            rows = a.reshape([-1, lengths[0][-1] or 0]), dy.reshape([-1, result[-1] or 0])
            by_b = v.tape.emit("Gemm", *rows, transA=1)
            by_b = v.reshaped(by_b, 1) if ranks[1] == 1 else by_b
        else:
            product = swapped(a, len(lengths[0])).matmul(dy)
            by_b = _as_input(v, 1, product, (*result[:-2], *lengths[1][-2:]), lengths[1])
    return [by_a, by_b]


def _as_input(v: Vjp, i: int, product: Tensor, result: Lengths, source: Lengths) -> Tensor:
    """A product summed over the batches that an operand was repeated along, in the operand's shape."""
    lead = tuple(range(len(result) - len(source)))
    shorter = len(lead)
    repeated = (shorter + a for a, n in enumerate(source[:-2]) if n == 1 and result[shorter + a] != 1)
    found = product.sum([*lead, *repeated], keep=True).squeeze(*lead)
    return v.reshaped(found, i) if v.rank(i) == 1 else found


def swapped(x: Tensor, rank: int) -> Tensor:
    """The last two axes in the other order."""
    return x.transpose(*range(rank - 2), rank - 1, rank - 2)


def einsum(v: Vjp) -> Sequence[Cotangent]:
    """For each operand an Einsum of the cotangent and the others, with its letters behind the arrow.

    Raises:
        Undifferentiable: a letter stands twice in one operand.
    """
    terms, out = _terms(v)
    if any(len(set(t)) != len(t) for t in (*terms, out)):
        raise Undifferentiable("Einsum takes a diagonal")
    lengths: dict[str, int | None] = {}
    for i, term in enumerate(terms):
        for letter, length in zip(term, v.lengths(i), strict=True):
            if lengths.get(letter, 1) == 1:
                lengths[letter] = length
    result: list[Cotangent] = []
    for i, term in enumerate(terms):
        if not v.wants(i):
            result.append(None)
            continue
        others = [k for k in range(len(terms)) if k != i]
        present = {letter for t in (*(terms[k] for k in others), out) for letter in t}
        kept = "".join(letter for letter in term if letter in present)
        equation = ",".join([out, *(terms[k] for k in others)]) + "->" + kept
        found = v.tape.emit("Einsum", v.dy, *(v.x(k) for k in others), equation=equation)
        found = found.unsqueeze(*(a for a, letter in enumerate(term) if letter not in present))
        source = v.lengths(i)
        repeated = [a for a, x in enumerate(term) if x in present and source[a] == 1 and lengths[x] != 1]
        found = found.sum(repeated, keep=True)
        result.append(found if kept == term else v.expanded(found, i))
    return result


def _terms(v: Vjp) -> tuple[list[str], str]:
    """The letters of each operand and of the result, with an ellipsis spelled out."""
    equation = v.attr("equation").replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    spare = [c for c in string.ascii_letters if c not in equation]
    widths = [v.rank(i) - len(t.replace("...", "")) for i, t in enumerate(terms)]
    widest = max((w for w, t in zip(widths, terms, strict=True) if "..." in t), default=0)
    dots = "".join(spare[:widest])
    spelled = [t.replace("...", dots[widest - w :]) for w, t in zip(widths, terms, strict=True)]
    if arrow:
        return spelled, out.replace("...", dots)
    letters = sorted(c for c in set("".join(spelled)) - set(dots) if left.count(c) == 1)
    return spelled, dots + "".join(letters)


def fused_matmul(v: Vjp) -> Sequence[Cotangent]:
    """FusedMatMul: operands may be transposed, and the product scaled.

    Raises:
        Undifferentiable: axes of a batch are transposed.
    """
    if v.attr("transBatchA", 0) or v.attr("transBatchB", 0):
        raise Undifferentiable("FusedMatMul transposes its batch")
    ranks = v.rank(0), v.rank(1)
    if min(ranks) < 2:
        raise Undifferentiable("FusedMatMul of a vector")
    left, right = v.attr("transA", 0), v.attr("transB", 0)
    dy = v.dy * v.attr("alpha", 1.0)
    result = v.out_lengths()
    dy_t = swapped(dy, len(result))
    by_a = by_b = None
    if v.wants(0):
        b = swapped(v.x(1), ranks[1]) if right else v.x(1)
        product = b.matmul(dy_t) if left else dy.matmul(swapped(b, ranks[1]))
        by_a = _as_input(v, 0, product, (*result[:-2], *v.lengths(0)[-2:]), v.lengths(0))
    if v.wants(1):
        a = swapped(v.x(0), ranks[0]) if left else v.x(0)
        product = dy_t.matmul(a) if right else swapped(a, ranks[0]).matmul(dy)
        by_b = _as_input(v, 1, product, (*result[:-2], *v.lengths(1)[-2:]), v.lengths(1))
    return [by_a, by_b]


RULES: dict[str, Rule] = {
    "Einsum": einsum,
    "Gemm": gemm,
    "MatMul": matmul,
    "com.microsoft:FusedMatMul": fused_matmul,
}
