"""From a job and a budget to the result."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

from ..contracts.plan import Plan
from ..contracts.verdict import Drop, Verdict
from ..criteria import rules
from ..errors import CheckFailed, Infeasible, UsageError
from ..execution.sessions import open_session
from ..graph import Graph, save
from ..reductions.channels.plan import make_plan
from ..repair import Outcome
from ..strategies.goals import caps
from ..strategies.uniform import by_ratio, by_rule
from ..types import Mask
from .evidence import context
from .exchange import exchanged
from .inbound import with_inbound
from .job import Job, Made, proved
from .judge import judge, require_worth
from .masking import as_mask
from .prepare import Prepared
from .promise import exams, lost, most, require_promise
from .route import Route, met, route
from .settings import Budget
from .steps import stepwise
from .unstructured import with_sparsity


@dataclass(frozen=True)
class Result:
    """A pruned model.

    Attributes:
        graph: the model; `save` writes it.
        plan: what was kept, to replay with `apply`.
        verdict: what is known of it.
        prepared: what it was made from.
        kept: (analysis.count,), whether each unit stayed.
        repaired: what became of the weights that are left.
    """

    graph: Graph
    plan: Plan
    verdict: Verdict
    prepared: Prepared
    kept: Mask
    repaired: Outcome

    @property
    def model(self) -> Any:
        """The `onnx.ModelProto`."""
        return self.graph.whole()

    def save(self, path: str | os.PathLike[str]) -> int:
        """Write the model, whole or not at all; returns the bytes written."""
        return save(self.graph, path)


def solve(job: Job, budget: Budget) -> Result:
    """Meet a budget.

    Raises:
        UsageError: a budget and an option contradict each other.
        Infeasible: the budget can't be met, or the result is no gain.
        ProofFailed: the surgery was not exact: a bug.
        CheckFailed: the result drifts far, or is slower than was asked.
    """
    if budget.inbound is not None:
        return finished(job, with_inbound(job, budget.inbound), planned(job, budget))
    if budget.sparsity is not None:
        return finished(job, with_sparsity(job, budget.sparsity), planned(job, budget))
    if budget.ratio is not None or budget.select is not None:
        return finished(job, proved(job, _by_group(job, budget)), planned(job, budget))
    way = route(job, budget.goals)
    plan = planned(job, budget, way)
    if budget.drop is None:
        return finished(job, met(job, exchanged(job, stepwise(job, way))), plan, way=way)
    original = open_session(job.ready.original)
    marked = exams(job, budget.metric, original)
    if budget.goals.given():
        made = met(job, exchanged(job, stepwise(job, way)))
        drop = lost(made.graph, marked)[1]
        require_promise(drop, budget.drop, job.ready.original.where)
    else:
        found = most(job, way, marked, budget.drop)
        if job.settings.steps > 1:
            found = most(job, stepwise(job, way, found.share), marked, budget.drop)
        made, drop = proved(job, found.kept), found.unseen
    return finished(job, made, plan, way=way, drop=drop)


def _by_group(job: Job, budget: Budget) -> Mask:
    settings, ready = job.settings, job.ready
    if settings.steps > 1:
        option = "--ratio" if budget.select is None else "--select"
        raise UsageError(f"goes with a budget of cost, not with {option}", where="--steps")
    scores = job.criterion.scores(context(ready, job.evidence, settings.seed))
    round_to = 1 if settings.round_to == "auto" else settings.round_to
    if budget.select is None:
        ratio = budget.ratio or 0.0
        return by_ratio(ready.analysis, scores, ratio, round_to=round_to, min_channels=settings.min_channels)
    rule = rules.parsed(budget.select)
    return by_rule(
        ready.analysis,
        scores,
        lambda score: int(rule(score).sum()),
        round_to=round_to,
        min_channels=settings.min_channels,
    )


def planned(job: Job, budget: Budget, way: Route | None = None) -> dict[str, Any]:
    """What decides about the result, for the plan."""
    metric = budget.metric if isinstance(budget.metric, str) else getattr(budget.metric, "__name__", None)
    return {
        **budget.given(),
        **({} if budget.max_drop is None else {"metric": metric}),
        **job.settings.recorded(job.criterion),
        **({} if way is None else {"multiple": way.widths.multiple}),
        "calibrated": job.evidence.fit is not None,
        "held_back": list(job.evidence.shares),
    }


def finished(
    job: Job, made: Made, options: dict[str, Any], *, way: Route | None = None, drop: Drop | None = None
) -> Result:
    """The verdict, and whether the result is worth having.

    Raises:
        Infeasible: it isn't.
        CheckFailed: it drifts far, or is slower than was asked.
    """
    ready, settings = job.ready, job.settings
    if made.untouched and not settings.force:
        raise Infeasible(
            "no group is large enough to lose so little: nothing would be removed",
            where=ready.original.where,
            hint="ask for more pruning, or --force to have the model as it is",
        )
    reached = () if way is None else _reached(job, way, ready.original if made.untouched else made.graph)
    if settings.masked and not made.untouched:
        made = as_mask(job, made)
    graph = ready.original if made.untouched else made.graph
    plan = make_plan(ready.graph, ready.analysis, made.kept, options)
    job.progress("Comparing with the original")
    verdict = judge(
        ready,
        graph,
        made.surgery_error or 0.0,
        not any(group.approximate for group in plan.groups),
        job.evidence,
        job.labels,
        settings,
        job.timing,
        measure_latency=job.measure_latency,
        drop=drop,
        notes=(*made.notes, *made.outcome.notes, *reached),
    )
    if not settings.force:
        require_worth(verdict, ready.original.where, f"repair '{made.outcome.mode}'", in_place=made.in_place)
        if way is not None and not made.in_place:
            _require_speed(way, verdict)
    return Result(graph, plan, verdict, ready, made.kept, replace(made.outcome, graph=graph))


def _reached(job: Job, way: Route, graph: Graph) -> tuple[str, ...]:
    """What the budgets have come to, where the table of the verdict doesn't say."""
    counted = replace(way.goals, macs=None, params=None, latency=None)
    return tuple(
        f"{cap.option}: {cap.written(cap.value(graph))}, asked for at most {cap.written(cap.limit)}"
        for cap in caps(counted, job.ready.original, job.timing)
    )


def _require_speed(way: Route, verdict: Verdict) -> None:
    """Refuse a result that is surely slower than was asked: noise counts for it.

    Raises:
        CheckFailed: it is.
    """
    limit, speed = way.goals.latency, verdict.speed
    if limit is None or speed is None:
        return
    found = speed.low if limit.share is not None else speed.after * speed.low / speed.ratio
    if found > limit.of(1.0):
        raise CheckFailed(
            f"the result takes {limit.written(speed.ratio if limit.share is not None else speed.after)}, "
            f"more than {limit}",
            where="--latency",
            hint="the machine may have been busy: try again, or --force to have it anyway",
        )
