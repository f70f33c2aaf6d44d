"""What a user asks for: a budget, and how to meet it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

from ..contracts import budget
from ..contracts.groups import Group
from ..cost.rate import fitting
from ..criteria import Criterion, rules
from ..errors import UsageError
from ..quality.metrics import Function
from ..reductions.channels.find import Granularity
from ..reductions.weights.single import Among
from ..repair import Mode
from ..strategies.goals import Goals
from ..strategies.schedule import Kind

Amount = float | str
"""A share of what the original has (0.5, "50%"), or an amount with its unit ("8MB")."""

_COSTS = {
    "macs": budget.MACS,
    "params": budget.PARAMS,
    "size": budget.SIZE,
    "latency": budget.LATENCY,
    "memory_peak": budget.MEMORY,
}


_ALONE = ("ratio", "select", "inbound", "sparsity")


@dataclass(frozen=True)
class Budget:
    """How much stays: `ratio`, `select`, `inbound` or `sparsity` alone, or any of the others together.

    Attributes:
        ratio: share of the channels of every group to remove.
        macs: multiply-accumulates to keep at the most.
        params: parameters to keep at the most.
        size: bytes of the saved file to keep at the most.
        latency: time of a run in ONNX Runtime to keep at the most.
        memory_peak: bytes of weights and activations during a run to keep at the most.
        max_drop: how far the metric may fall, absolutely: 0.01, "1%", "1pt". Alone: as much goes as may.
        metric: what may fall: `accuracy` (with labels), `agreement` with the original, `module:function`, or
            a function (see `onnxprune.quality`); by default the first with labels, else the second.
        select: a rule that says how much of every group stays: `percentile:MU`, `deviations:K`, `count:N`
            (see `onnxprune.criteria.rules`).
        inbound: share of the input channels that every filter keeps, by `inbound-variance`.
        sparsity: share of the single weights that become zero, by `l1` or `wanda`.
    """

    ratio: float | None = None
    macs: Amount | None = None
    params: Amount | None = None
    size: Amount | None = None
    latency: Amount | None = None
    memory_peak: Amount | None = None
    max_drop: Amount | None = None
    metric: str | Function | None = None
    select: str | None = None
    inbound: float | None = None
    sparsity: float | None = None

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            UsageError: there is none, one is not alone that must be, or one can't be read.
        """
        given = self.given()
        if not given:
            raise UsageError("no budget is given", hint=f"give {_spelled(self)}")
        alone = next((name for name in _ALONE if name in given), None)
        if alone is not None and len(given) > 1:
            others = ", ".join(_option(name) for name in given if name != alone)
            raise UsageError(
                f"{_option(alone)} can't be combined with {others}", hint="leave one of them out"
            )
        for name, share in (("ratio", self.ratio), ("inbound", self.inbound), ("sparsity", self.sparsity)):
            if share is not None and not 0 < share < 1:
                raise UsageError(f"{share:g} is not between 0 and 1", where=_option(name))
        if self.select is not None:
            rules.parsed(self.select)
        if self.metric is not None and self.max_drop is None:
            raise UsageError("says nothing without --max-drop", where="--metric")
        _ = self.goals, self.drop

    def given(self) -> dict[str, Amount]:
        """What is set, by name."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "metric"}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def of_costs(self) -> bool:
        """Whether it says what the model may cost or lose, and leaves open what each group gives."""
        return not any(name in _ALONE for name in self.given())

    @cached_property
    def goals(self) -> Goals:
        """What may be kept of each cost."""
        limits = {
            name: budget.limit(str(value), _COSTS[name], option=_option(name))
            for name, value in self.given().items()
            if name in _COSTS
        }
        memory = limits.pop("memory_peak", None)
        return Goals(**limits, memory=memory)

    @cached_property
    def drop(self) -> float | None:
        """How far the metric may fall."""
        return None if self.max_drop is None else budget.drop(str(self.max_drop))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _spelled(given: Budget) -> str:
    *names, last = (_option(f.name) for f in fields(given) if f.name != "metric")
    return f"{', '.join(names)} or {last}"


@dataclass(frozen=True)
class Widths:
    """Which widths groups may have.

    Attributes:
        multiple: of this.
        strict: also where it leaves a small group no choice; else the largest part of it that does, and
            channels count, of which a head has many.
    """

    multiple: int = 1
    strict: bool = True

    def of(self, group: Group) -> int:
        """Of how many units a group keeps a multiple."""
        if self.strict:
            return self.multiple
        return fitting(self.multiple // math.gcd(self.multiple, group.span), group.size)


@dataclass(frozen=True)
class Settings:
    """How a budget is met.

    Attributes:
        criterion: what a unit is worth: a name, or an object like those of `onnxprune.criteria`; `None`:
            `obs` with samples, `l1` without.
        repair: what may change of the weights that are left.
        round_to: keep a multiple of this many channels of each group where it has more; `auto`: what the
            kernels like, measured where latency is (see `liked_widths`).
        min_channels: keep at least this many of each group.
        keep: patterns (`*`, `?`) of node or weight names whose channels must stay.
        granularity: what may go of attention.
        allow_approximate: channels may go that a normalisation runs over; that is not exact.
        simplify: clean the graph first.
        seed: of everything random.
        batch: samples that run together, where the model allows it.
        memory: bytes of activations to hold in memory before they go to a temporary folder.
        evaluations: how many runs of the held-back samples may be spent on finding out what groups are worth
            to the network's outputs; 0: what their consumers lose is all that counts.
        steps: in how many steps to go there, with statistics of what is left after each.
        schedule: how much goes in each step; see `search.schedule`.
        inbound_groups: let so many groups of filters read their own channels, where that is faster; 0: zero
            the kernels that go.
        force: give a result that is not faster, or drifts far, too.
        masked: zero in place what would go; every shape stays.
        sparsity_among: which weights compete to stay: of the model, a layer, or an output.
    """

    criterion: str | Criterion | None = None
    repair: Mode = "auto"
    round_to: int | Literal["auto"] = "auto"
    min_channels: int = 1
    keep: Sequence[str] = ()
    granularity: Granularity = "auto"
    allow_approximate: bool = False
    simplify: bool = True
    seed: int = 0
    batch: int = 32
    memory: float = 2e9
    evaluations: int = 200
    steps: int = 1
    schedule: Kind = "linear"
    force: bool = False
    inbound_groups: int = 0
    masked: bool = False
    sparsity_among: Among = "auto"

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            UsageError: a number is out of its range, or options contradict each other.
        """
        if isinstance(self.round_to, int) and self.round_to < 1:
            raise UsageError(f"{self.round_to} is not above zero", where="--round-to")
        if self.steps < 1:
            raise UsageError(f"{self.steps} is not above zero", where="--steps")
        if self.masked and self.repair not in ("auto", "none"):
            raise UsageError(
                "what is masked is not repaired: it is what pruning alone gives",
                where="--masked",
                hint="leave out --repair",
            )
        if self.masked and self.allow_approximate:
            raise UsageError(
                "a normalisation over zeros is not one over what is left",
                where="--masked",
                hint="leave out --allow-approximate",
            )

    def require_use(self, budget: Budget | None) -> None:
        """Refuse an option that says nothing with this budget.

        Raises:
            UsageError: there is one.
        """
        for option, given, wanted in (
            ("--inbound-groups", self.inbound_groups > 0, "inbound"),
            ("--sparsity-among", self.sparsity_among != "auto", "sparsity"),
        ):
            if given and (budget is None or wanted not in budget.given()):
                raise UsageError(f"says nothing without {_option(wanted)}", where=option)

    def recorded(self, criterion: Criterion) -> dict[str, Any]:
        """What decides about the result, for the plan."""
        return {
            "criterion": criterion.name,
            "repair": self.repair,
            "round_to": self.round_to,
            "min_channels": self.min_channels,
            "keep": list(self.keep),
            "granularity": self.granularity,
            "allow_approximate": self.allow_approximate,
            "simplify": self.simplify,
            "seed": self.seed,
            "evaluations": self.evaluations,
            "steps": self.steps,
            "schedule": self.schedule,
            **({"inbound_groups": self.inbound_groups} if self.inbound_groups else {}),
            **({"masked": True} if self.masked else {}),
            **({"sparsity_among": self.sparsity_among} if self.sparsity_among != "auto" else {}),
        }
