"""What a user asks for: a budget, and how to meet it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..channels import Granularity
from ..criteria import Criterion
from ..errors import UsageError
from ..repair import Mode


@dataclass(frozen=True)
class Budget:
    """How much stays; exactly one of them.

    Attributes:
        ratio: share of the channels of every group to remove.
        macs: share of the model's multiply-accumulates to keep.
        params: share of the model's parameters to keep.
    """

    ratio: float | None = None
    macs: float | None = None
    params: float | None = None

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            UsageError: there is none, or more than one, or a share outside (0, 1).
        """
        given = self.given()
        if len(given) != 1:
            raise UsageError("give exactly one of --ratio, --macs and --params")
        for name, value in given.items():
            if not 0 < value < 1:
                raise UsageError(f"{value:g} is not between 0 and 1", where=f"--{name}")

    def given(self) -> dict[str, float]:
        """What is set, by name."""
        return {k: v for k, v in asdict(self).items() if v is not None}


@dataclass(frozen=True)
class Settings:
    """How a budget is met.

    Attributes:
        criterion: what a unit is worth: a name, or an object like those of `onnxprune.criteria`; `None`:
            `obs` with samples, `l1` without.
        repair: what may change of the weights that are left.
        round_to: keep a multiple of this many channels of each group where it has more.
        min_channels: keep at least this many of each group.
        keep: patterns (`*`, `?`) of node or weight names whose channels must stay.
        granularity: what may go of attention.
        simplify: clean the graph first.
        seed: of everything random.
        batch: samples that run together, where the model allows it.
        memory: bytes of activations to hold in memory before they go to a temporary folder.
        evaluations: how many runs of the held-back samples may be spent on finding out what groups are worth
            to the network's outputs; 0: what their consumers lose is all that counts.
        force: give a result that is not faster, or drifts far, too.
    """

    criterion: str | Criterion | None = None
    repair: Mode = "auto"
    round_to: int = 1
    min_channels: int = 1
    keep: Sequence[str] = ()
    granularity: Granularity = "auto"
    simplify: bool = True
    seed: int = 0
    batch: int = 32
    memory: float = 2e9
    evaluations: int = 200
    force: bool = False

    def recorded(self, criterion: Criterion) -> dict[str, Any]:
        """What decides about the result, for the plan."""
        return {
            "criterion": criterion.name,
            "repair": self.repair,
            "round_to": self.round_to,
            "min_channels": self.min_channels,
            "keep": list(self.keep),
            "granularity": self.granularity,
            "simplify": self.simplify,
            "seed": self.seed,
            "evaluations": self.evaluations,
        }
