"""What an einsum does with ids: axes of the same letter run together, and what is summed over is dropped."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..graph import Shape
from .label import Block, Label
from .record import Letter

if TYPE_CHECKING:
    from .op import Op

Views = Mapping[int, tuple[Shape, Label]]


@dataclass(frozen=True)
class _Operand:
    """One input.

    Attributes:
        input: which one.
        lengths: of its axes, by letter.
        blocks: its ids, on axes that are numbered as letters are (see `_Spelling`).
    """

    input: int
    lengths: Mapping[Letter, int]
    blocks: Sequence[Block]


class _Spelling:
    """All letters: each has a number, and the length that its axes have where they are not broadcast."""

    def __init__(self) -> None:
        self.number: dict[Letter, int] = {}
        self.length: dict[Letter, int] = {}

    def add(self, letters: Sequence[Letter], shape: Shape) -> None:
        """The letters of one operand."""
        for letter, length in zip(letters, shape, strict=True):
            self.number.setdefault(letter, len(self.number))
            known = self.length.get(letter, 1)
            self.length[letter] = max(known, length) if known and length else 0

    def operand(self, i: int, lengths: Mapping[Letter, int], label: Label) -> _Operand:
        """An input, without the ids of axes that are broadcast."""
        own = list(lengths)
        meets = [axis for axis, letter in enumerate(own) if lengths[letter] == self.length[letter]]
        blocks = [b.on(meets) for b in label if set(b.axes) & set(meets)]
        return _Operand(i, lengths, [b.moved([self.number[own[a]] for a in b.axes]) for b in blocks])


def combine(
    op: Op,
    operands: Sequence[tuple[int, Sequence[Letter]]],
    out: Sequence[Letter],
    views: Views,
    zeros: Mapping[int, str] | None,
) -> Label:
    """See `Op.combine`."""
    spelling = _Spelling()
    given: list[tuple[int, dict[Letter, int], Label]] = []
    for i, letters in operands:
        shape, label = views.get(i) or (op.shape(i), op.label(i))
        if shape is None or len(shape) != len(letters):
            op.unknown(f"the shape of input {i} of {op.node.op} is not known")
            return ()
        spelling.add(letters, shape)
        given.append((i, dict(zip(letters, shape, strict=True)), label))
    seen = [spelling.operand(*some) for some in given]
    leaders, followers = (
        [b for operand in seen if op.is_constant(operand.input) == constant for b in operand.blocks]
        for constant in (False, True)
    )
    merged = _kept_whole(op, spelling, seen, _merged(op, leaders, followers))
    kept = {spelling.number[letter] for letter in out if letter in spelling.number}
    for block in merged:
        if not set(block.axes) <= kept:
            _drop(op, spelling, block, [s for s in seen if zeros is None or s.input in zeros], zeros or {})
    rest = [op.project(b, sorted(kept)) for b in merged if kept & set(b.axes)]
    position = {spelling.number[letter]: a for a, letter in enumerate(out) if letter in spelling.number}
    return tuple(b.moved([position[a] for a in b.axes]) for b in _merged(op, rest))


def _kept_whole(
    op: Op, spelling: _Spelling, seen: Sequence[_Operand], merged: Sequence[Block]
) -> list[Block]:
    """Ids that meet an axis without any must stay; what is left has others."""
    stays: set[int] = set()
    for operand, axis in _bare(spelling, seen):
        stays.add(axis)
        name = op.node.inputs[operand.input]
        for block in merged:
            if axis in block.axes:
                reason = f"meets '{name}', which has no removable channels"
                op.freeze([op.project(block, [axis])], reason, op.walk.lacking(name))
    return [block for block in merged if not set(block.axes) <= stays]


def _bare(spelling: _Spelling, seen: Sequence[_Operand]) -> Iterator[tuple[_Operand, int]]:
    """Axes of operands that have no ids, by the numbers of their letters."""
    for operand in seen:
        covered = {axis for block in operand.blocks for axis in block.axes}
        for letter, length in operand.lengths.items():
            if length == spelling.length[letter] > 1 and spelling.number[letter] not in covered:
                yield operand, spelling.number[letter]


def _merged(op: Op, blocks: Sequence[Block], followers: Sequence[Block] = ()) -> list[Block]:
    """Join blocks that share axes; those within another one are absorbed by it.

    Followers are blocks of constants: their entries take the order of what they meet.
    """
    merged: list[Block] = []
    all_ = [*((b, False) for b in blocks), *((b, True) for b in followers)]
    for own, follows in sorted(all_, key=lambda some: -len(some[0].axes)):
        block, absorbed = own, False
        for other in merged:
            common = sorted(set(block.axes) & set(other.axes))
            if common:
                row = op.project(other, common)
                block = op.walk.follow(op.node, block, row) if follows else block
                op.join(row, op.project(block, common))
                absorbed = absorbed or common == list(block.axes)
        if not absorbed:
            merged.append(block)
    return merged


def _drop(
    op: Op, spelling: _Spelling, block: Block, seen: Sequence[_Operand], zeros: Mapping[int, str]
) -> None:
    """Say which operand to mask where this block is contracted: weights if there are any."""
    for operand in sorted(seen, key=lambda s: not op.is_weight(s.input)):
        own = next((b for b in operand.blocks if b.axes == block.axes), None)
        if own is not None:
            letters = [spelling.number[letter] for letter in operand.lengths]
            placed = own.moved([letters.index(axis) for axis in own.axes])
            shape = tuple(operand.lengths.values())
            op.mask(operand.input, shape, placed.axes, placed.old, zeros.get(operand.input, ""))
            return
