"""What was compared, and cuts that were proved by it."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import ProofFailed
from .reduction import Cut


@dataclass(frozen=True)
class Comparison:
    """Two networks that should compute the same, run on the same inputs.

    Attributes:
        tensors: how many tensors were compared, outputs among them.
        error: the largest difference at any output, relative to the largest magnitude there.
        excess: the largest difference anywhere, as a share of what rounding explains there; at most 1 if both
            are equal.
        where: the tensor, or the node, of that.
    """

    tensors: int = 0
    error: float = 0.0
    excess: float = 0.0
    where: str = ""

    @property
    def equal(self) -> bool:
        """Whether rounding explains every difference."""
        return self.excess <= 1


@dataclass(frozen=True, eq=False)
class Proved:
    """A cut that equals its masked reference. Only `proof` makes one.

    Attributes:
        cut: the cut.
        compared: with the masked reference.
        covered: ids of the groups that the comparison is about.
        approximate: names of the groups that no comparison can cover: what stays is changed, too.

    Raises:
        ProofFailed: they differ, or a group is neither covered nor approximate: a bug of onnxprune.
    """

    cut: Cut
    compared: Comparison
    covered: frozenset[str]
    approximate: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        left = [g for g in self.cut.groups if g.id not in self.covered and not g.approximate]
        if self.compared.equal and not left:
            return
        if left:
            reason = f"group '{left[0].name}' was not compared"
        else:
            reason = f"{self.compared.where} differs from the masked original by more than rounding explains"
        raise ProofFailed(
            f"the surgery is not exact: {reason}",
            where=self.cut.base.where,
            hint="this is a bug of onnxprune, please report it; nothing was written",
        )

    @property
    def exact(self) -> bool:
        """Whether all that was removed was compared."""
        return not self.approximate
