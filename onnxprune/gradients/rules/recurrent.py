"""RNN, GRU and LSTM.

The forward pass stays the runtime's own operator. Of its output, the hidden states, the gates of all steps
follow at once, by two products of matrices; so only what really runs from step to step is scanned: the cells
of an LSTM once forward, and the cotangents of the states once backward, by a body of a few nodes. The
gradients of the weights are products over all steps again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..scan import scan
from ..tape import Tensor
from ..vjp import Cotangent, Rule, Undifferentiable, Vjp

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh")}
_SEQUENCE_LENGTHS, _PEEPHOLES = 4, 7


@dataclass(frozen=True)
class Direction:
    """One direction of a recurrent layer.

    Attributes:
        x: (steps, batch, inputs).
        w: (gates * hidden, inputs).
        r: (gates * hidden, hidden).
        bias: of the inputs (gates * hidden,), or nothing.
        bias_r: of the states.
        before: (steps, batch, hidden), the state that each step starts from.
        h: (steps, batch, hidden), the state that it ends in.
        dy: (steps, batch, hidden), cotangent of the states.
        dh: (batch, hidden), more cotangent of the last state.
        backward: whether steps run from the last to the first.
        hidden: the number of hidden units.
    """

    x: Tensor
    w: Tensor
    r: Tensor
    bias: Tensor | None
    bias_r: Tensor | None
    before: Tensor
    h: Tensor
    dy: Tensor
    dh: Tensor
    backward: bool
    hidden: int

    def gates(self, count: int, *, reset_apart: bool = False) -> tuple[Tensor, ...]:
        """What the activations of all steps are taken of; the part of the states of the last gate apart."""
        size = [self.hidden] * count
        by_input = self.x.matmul(self.w.transpose(1, 0))
        by_state = self.before.matmul(self.r.transpose(1, 0))
        by_input = by_input if self.bias is None else by_input + self.bias
        by_state = by_state if self.bias_r is None else by_state + self.bias_r
        if not reset_apart:
            return _parts(by_input + by_state, size)
        first, states = _parts(by_input, size), _parts(by_state, size)
        sums = [a + b for a, b in zip(first[:-1], states[:-1], strict=True)]
        return (*sums, first[-1], states[-1])


@dataclass(frozen=True)
class Slopes:
    """Cotangents of one direction.

    Attributes:
        dz: (steps, batch, gates * hidden), of what the gates' activations are taken of, inputs' part.
        dz_r: the states' part, where it is another.
        states: (steps, batch, hidden) that each gate reads, where not all read the state before.
        h0: (batch, hidden).
        c0: of an LSTM's cells.
    """

    dz: Tensor
    dz_r: Tensor
    states: tuple[Tensor, ...]
    h0: Tensor
    c0: Tensor | None = None


def lstm(v: Vjp) -> Sequence[Cotangent]:
    """LSTM without peepholes."""
    return _recurrent(v, _lstm_direction)


def gru(v: Vjp) -> Sequence[Cotangent]:
    """GRU, with the reset before or after the product."""
    return _recurrent(v, _gru_direction)


def rnn(v: Vjp) -> Sequence[Cotangent]:
    """RNN with tanh, relu or sigmoid."""
    return _recurrent(v, _rnn_direction)


def _lstm_direction(v: Vjp, direction: Direction, d: int) -> Slopes:
    """The cell c' = f c + i g, the state h = o tanh(c').

    From a step's dh and dc: dc += dh o (1 - tanh(c')²); then dz = (dc g i(1-i), dh tanh(c') o(1-o),
    dc c f(1-f), dc i (1-g²)), in ONNX's order of gates; before it, dh = dz R and dc = dc f.
    """
    zi, zo, zf, zc = direction.gates(4)
    i, o, f = (z.map("Sigmoid") for z in (zi, zo, zf))
    g = zc.map("Tanh")
    c0 = _first_state(v, 6, d, direction)
    fresh = i * g

    def step(states: Sequence[Tensor], at: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        cell = at[0] * states[0] + at[1]
        return [cell], [states[0], cell]

    _, (before, cells) = scan(v.tape, [c0], [f, fresh], step, backward=direction.backward)
    bent = cells.map("Tanh")
    slope_c = o * (1.0 - bent * bent)
    factors = [g * i * (1.0 - i), bent * o * (1.0 - o), before * f * (1.0 - f), i * (1.0 - g * g)]
    factor = v.tape.concat(factors, 2)

    def back(states: Sequence[Tensor], at: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        dy, slope, factors_now, keep = at
        dh = dy + states[0]
        dc = states[1] + dh * slope
        dz = dh.tape.concat([dc, dh, dc, dc], 1) * factors_now
        return [dz.matmul(direction.r), dc * keep], [dz]

    dc = _last_cotangent(v, 2, d, direction)
    (h, c), (dz,) = scan(
        v.tape, [direction.dh, dc], [direction.dy, slope_c, factor, f], back, backward=not direction.backward
    )
    return Slopes(dz, dz, (direction.before,), h, c)


def _gru_direction(v: Vjp, direction: Direction, d: int) -> Slopes:
    """The state h' = (1 - z) n + z h, with n = tanh(W x + r (R h)) or tanh(W x + R (r h)).

    From a step's dh: dz = dh (h - n) z(1-z) and dn = dh (1-z)(1-n²), then dr through the product that the
    reset is before or behind; before it, dh = dh z + what all three gates send back.
    """
    after = bool(v.attr("linear_before_reset", 0))
    zz, zr, by_input, by_state = direction.gates(3, reset_apart=True)
    z, r = zz.map("Sigmoid"), zr.map("Sigmoid")
    r_zr, r_n = direction.r.slice([0], [2 * direction.hidden], [0]), _rows(direction.r, 2, direction.hidden)
    if after:
        n = (by_input + r * by_state).map("Tanh")
        slope_r = by_state * r * (1.0 - r)
    else:
        inner = by_input + (r * direction.before).matmul(r_n.transpose(1, 0))
        if direction.bias_r is not None:
            inner = inner + _rows(direction.bias_r, 2, direction.hidden)
        n = inner.map("Tanh")
        slope_r = direction.before * r * (1.0 - r)
    slope_z = (direction.before - n) * z * (1.0 - z)
    slope_n = (1.0 - z) * (1.0 - n * n)

    def back(states: Sequence[Tensor], at: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        dy, keep, k_z, k_n, k_r, reset = at
        dh = dy + states[0]
        dz, dn = dh * k_z, dh * k_n
        if after:
            dr, du = dn * k_r, dn * reset
            before = dh * keep + dh.tape.concat([dz, dr, du], 1).matmul(direction.r)
        else:
            dq = dn.matmul(r_n)
            dr = dq * k_r
            before = dh * keep + dh.tape.concat([dz, dr], 1).matmul(r_zr) + dq * reset
        return [before], [dh.tape.concat([dz, dr, dn], 1)]

    scanned = [direction.dy, z, slope_z, slope_n, slope_r, r]
    (h,), (dz,) = scan(v.tape, [direction.dh], scanned, back, backward=not direction.backward)
    if not after:
        return Slopes(dz, dz, (direction.before, direction.before, r * direction.before), h)
    d_z, d_r, d_n = _parts(dz, [direction.hidden] * 3)
    return Slopes(dz, v.tape.concat([d_z, d_r, d_n * r], 2), (direction.before,), h)


def _rnn_direction(v: Vjp, direction: Direction, d: int) -> Slopes:
    """The state h' = a(z): dz = dh a'(z), and before it dh = dz R."""
    names = v.attr("activations") or ["Tanh"] * (d + 1)
    slope = _KINDS[_text(names[d]).lower()](direction.h)

    def back(states: Sequence[Tensor], at: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        dz = (at[0] + states[0]) * at[1]
        return [dz.matmul(direction.r)], [dz]

    (h,), (dz,) = scan(v.tape, [direction.dh], [direction.dy, slope], back, backward=not direction.backward)
    return Slopes(dz, dz, (direction.before,), h)


_KINDS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda h: h.above(0.0),
    "sigmoid": lambda h: h * (1.0 - h),
    "tanh": lambda h: 1.0 - h * h,
}
"""Activation of an RNN -> its derivative, from what it gives."""


def _recurrent(v: Vjp, differentiate: Callable[[Vjp, Direction, int], Slopes]) -> Sequence[Cotangent]:
    """The cotangents of all inputs, from those of each direction.

    Raises:
        Undifferentiable: sequences differ in length, or the cell isn't a plain one.
    """
    _check(v)
    gates, directions = _GATES[v.node.op], v.shape(1)[0]
    by_way = [_slopes(v, differentiate, d, gates) for d in range(directions)]
    result: list[Cotangent] = []
    for i in range(len(v.node.inputs)):
        if not v.wants(i):
            result.append(None)
        elif i == 0:
            total = by_way[0][0]
            for found in by_way[1:]:
                total = total + found[0]
            result.append(total)
        elif i in (_SEQUENCE_LENGTHS, _PEEPHOLES):
            result.append(None)
        else:
            result.append(v.tape.concat([found[i].unsqueeze(0) for found in by_way], 0))
    return result


def _check(v: Vjp) -> None:
    op = v.node.op
    if v.has(_SEQUENCE_LENGTHS) and not _are_full(v):
        raise Undifferentiable(f"{op} with sequences of different lengths")
    if v.has(_PEEPHOLES):
        raise Undifferentiable(f"{op} with peepholes")
    if v.attr("clip") is not None or v.attr("input_forget", 0) or v.attr("layout", 0):
        raise Undifferentiable(f"{op} with a clip, a coupled forget gate, or batches first")
    names = [_text(a) for a in v.attr("activations") or ()]
    if op == "RNN":
        known = all(n.lower() in _KINDS for n in names)
    else:
        known = not names or tuple(names) == _ACTIVATIONS[op] * v.shape(1)[0]
    if not known:
        raise Undifferentiable(f"{op} with activations {', '.join(names)}")
    if not v.gives(0):
        raise Undifferentiable(f"{op} does not give its states")


def _are_full(v: Vjp) -> bool:
    """Whether all sequences are known to be as long as there are steps."""
    known, steps = v.value(_SEQUENCE_LENGTHS), v.lengths(0)[0]
    return known is not None and steps is not None and bool((known == steps).all())


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _slopes(
    v: Vjp, differentiate: Callable[[Vjp, Direction, int], Slopes], d: int, gates: int
) -> dict[int, Tensor]:
    """The cotangents by input, of one direction, without the axis of directions."""
    direction = _direction(v, d, gates)
    found = differentiate(v, direction, d)
    dz, dz_r = found.dz, found.dz_r
    rows, rows_r = _flat(dz, gates * direction.hidden), _flat(dz_r, gates * direction.hidden)
    inputs = v.shape(1)[2]
    result = {0: dz.matmul(direction.w), 1: _product(rows, _flat(direction.x, inputs))}
    if len(found.states) == 1:
        result[2] = _product(rows_r, _flat(found.states[0], direction.hidden))
    else:
        parts = _parts(dz_r, [direction.hidden] * gates)
        products = [
            _product(_flat(part, direction.hidden), _flat(state, direction.hidden))
            for part, state in zip(parts, found.states, strict=True)
        ]
        result[2] = v.tape.concat(products, 0)
    result[3] = v.tape.concat([rows.sum([0]), rows_r.sum([0])], 0)
    result[5] = found.h0
    if found.c0 is not None:
        result[6] = found.c0
    return result


def _product(left: Tensor, right: Tensor) -> Tensor:
    return left.tape.emit("Gemm", left, right, transA=1)


def _flat(x: Tensor, width: int) -> Tensor:
    return x.reshape([-1, width])


def _parts(x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    return x.split(sizes, 2, len(sizes)) if len(sizes) > 1 else (x,)


def _rows(x: Tensor, gate: int, hidden: int) -> Tensor:
    """The part of a weight that belongs to one gate."""
    return x.slice([gate * hidden], [(gate + 1) * hidden], [0])


def _direction(v: Vjp, d: int, gates: int) -> Direction:
    hidden, x = v.shape(2)[2], v.x(0)
    direction = v.attr("direction", "forward")
    backward = direction == "reverse" or d == 1
    states = _pick(v.y(0), d, 1)
    h0 = _state(v, 5, d, hidden)
    if backward:
        later = states.slice([1], [2**31], [0])
        before = v.tape.concat([later, h0.unsqueeze(0)], 0)
    else:
        before = v.tape.concat([h0.unsqueeze(0), states.slice([0], [-1], [0])], 0)
    bias = _pick(v.x(3), d, 0) if v.has(3) else None
    half = gates * hidden
    dy = v.cotangents[0]
    last = v.cotangents[1] if len(v.cotangents) > 1 else None
    nothing = v.tape.zeros(states.shape(), v.dtype)
    return Direction(
        x=x,
        w=_pick(v.x(1), d, 0),
        r=_pick(v.x(2), d, 0),
        bias=None if bias is None else bias.slice([0], [half], [0]),
        bias_r=None if bias is None else bias.slice([half], [2 * half], [0]),
        before=before,
        h=states,
        dy=nothing if dy is None else _pick(dy, d, 1),
        dh=v.tape.zeros(_state_shape(v, hidden), v.dtype) if last is None else _pick(last, d, 0),
        backward=backward,
        hidden=hidden,
    )


def _pick(x: Tensor, d: int, axis: int) -> Tensor:
    """One direction."""
    return x.slice([d], [d + 1], [axis]).squeeze(axis)


def _state_shape(v: Vjp, hidden: int) -> Tensor:
    batch = v.lengths(0)[1]
    if batch is not None:
        return v.tape.ints([batch, hidden])
    return v.tape.concat([v.x(0).length(1), v.tape.ints([hidden])], 0)


def _state(v: Vjp, i: int, d: int, hidden: int) -> Tensor:
    if v.has(i):
        return _pick(v.x(i), d, 0)
    return v.tape.zeros(_state_shape(v, hidden), v.x(0).dtype)


def _first_state(v: Vjp, i: int, d: int, direction: Direction) -> Tensor:
    return _state(v, i, d, direction.hidden)


def _last_cotangent(v: Vjp, output: int, d: int, direction: Direction) -> Tensor:
    found = v.cotangents[output] if len(v.cotangents) > output else None
    return v.tape.zeros(_state_shape(v, direction.hidden), v.dtype) if found is None else _pick(found, d, 0)


RULES: dict[str, Rule] = {"GRU": gru, "LSTM": lstm, "RNN": rnn}
