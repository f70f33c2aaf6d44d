"""From options to phases: which units are removed, by which criterion, to which budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..contracts.budget import Budget
from ..contracts.plan import Plan, PlannedPhase, PlannedReduction
from ..contracts.reduction import Reduction
from ..criteria import Criterion
from ..criteria import get as get_criterion
from ..errors import InputError, UsageError
from ..reductions.channels import Channels
from ..reductions.weights import Kernels, Weights
from .options import Options

LEAST = 0.2
"""The share of the cost at the narrow end of a curve without a budget, if it can be reached."""

READS_NORMS = frozenset({"bn-scale"})
"""Criteria that read normalisations, which cleaning folds into weights."""

_SINGLE = ("l1", "l2", "wanda", "random")
"""Criteria that rate single weights."""


@dataclass(frozen=True, eq=False)
class Phase:
    """Units that are chosen together; a phase starts from what the one before it left.

    Attributes:
        name: what is removed: `channels`, `kernels` or `weights`.
        reductions: whose units can be removed, in the order in which they are cut.
        budget: how much of the first one's may stay.
        criterion: of the first one's units.
        planned: from a plan that is replayed, in place of a choice.
        together: units of all groups compete with one another where every group gives its share otherwise.
    """

    name: str
    reductions: tuple[Reduction, ...]
    budget: Budget
    criterion: Criterion
    planned: PlannedPhase | None = None
    together: bool = False


def phases(options: Options, *, sampled: bool) -> tuple[Phase, ...]:
    """What options ask for.

    Args:
        options: them.
        sampled: whether there are samples, or statistics in their place.

    Raises:
        UsageError: a criterion is unknown, or needs samples.
    """
    found = []
    channels, weights = options.channels, options.weights
    if channels is not None or options.pareto is not None:
        found.append(_channels(options, channels or Budget(), sampled))
    if weights is not None:
        found.append(_weights(options, weights, sampled, alone=not found))
    return tuple(found)


def _channels(options: Options, budget: Budget, sampled: bool) -> Phase:
    channels = Channels(options.granularity, options.allow_approximate)
    if options.inbound is None:
        criterion = _criterion(options.criterion, "obs" if sampled else "l1")
        return Phase("channels", (channels,), budget, criterion)
    criterion = _criterion(options.criterion, "inbound-variance")
    if criterion.name not in ("inbound-variance", *_SINGLE):
        reason = f"{criterion.name} can't rate kernels; {', '.join(_SINGLE)} and inbound-variance can"
        raise UsageError(reason, where="--inbound", hint="leave out --criterion")
    return Phase("kernels", (Kernels(options.inbound_groups), channels), budget, criterion)


def _weights(options: Options, budget: Budget, sampled: bool, *, alone: bool) -> Phase:
    criterion = _criterion(options.criterion if alone else None, "wanda" if sampled else "l1")
    if criterion.name not in _SINGLE:
        reason = f"{criterion.name} can't rate single weights; {', '.join(_SINGLE)} can"
        raise UsageError(reason, where="--sparsity", hint="choose another --criterion")
    if criterion.name == "wanda" and not sampled:
        raise UsageError("'wanda' needs samples", where="--sparsity", hint="give --calib, or use l1")
    among = options.sparsity_among
    if among == "auto":
        among = "output" if criterion.name == "wanda" else "model"
    return Phase("weights", (Weights(among),), budget, criterion, together=among == "model")


def _criterion(wanted: str | Criterion | None, default: str) -> Criterion:
    return get_criterion(wanted or default) if isinstance(wanted, str | None) else wanted


def replayed(plan: Plan, options: Options, where: str) -> tuple[Phase, ...]:
    """What a plan asks for.

    Args:
        plan: the plan.
        options: how it was made.
        where: the model, for messages.

    Raises:
        InputError: it asks for a reduction that is not known.
    """
    known: dict[str, Reduction] = {
        "channels": Channels(options.granularity, options.allow_approximate),
        "kernels": Kernels(options.inbound_groups),
        "weights": Weights(),
    }
    found = []
    for planned in plan.phases or (PlannedPhase((PlannedReduction("channels"),)),):
        names = [one.reduction for one in planned.reductions]
        unknown = next((name for name in names if name not in known), None)
        if unknown is not None:
            reason = f"the plan removes '{unknown}', which this version doesn't know"
            raise InputError(reason, where=where, hint="use the version that wrote it")
        reductions = tuple(known[name] for name in names)
        found.append(
            Phase(names[0] if names else "channels", reductions, Budget(), get_criterion("l1"), planned)
        )
    return tuple(found)


def names(found: Sequence[Phase]) -> str:
    """Of the criteria, for the plan."""
    return ", ".join(dict.fromkeys(phase.criterion.name for phase in found))
