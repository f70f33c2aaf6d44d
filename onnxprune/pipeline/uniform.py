"""Budgets without a cost: the same share of every group, or a rule."""

from __future__ import annotations

from collections.abc import Mapping

from ..contracts.groups import Choice, Scores
from ..strategies.steps import rescored
from ..strategies.uniform import by_rank, by_rule, chosen
from ..strategies.widths import Widths
from ..types import Floats
from .search import Search, left_of


def uniformly(search: Search) -> Choice:
    """The choice of a budget without a cost."""
    uniform, options, space = search.phase.budget.uniform, search.options, search.rated
    if uniform is None:
        raise ValueError("the budget is one of costs")
    widths = Widths(1 if options.round_to == "auto" else options.round_to, least=options.min_channels)
    scores, rule, keep = search.scores(), uniform.rule, uniform.keep
    if rule is not None:
        return by_rule(space.groups, scores, lambda _, score: int(rule(score).sum()), widths)
    if keep is None:
        raise ValueError("a budget without a cost has a rule or a share")

    def choose(now: Scores, share: float) -> Choice:
        if search.phase.together:
            return by_rank(space.groups, now, share)
        return chosen(space.groups, now, uniform, share, widths)

    if options.steps == 1:
        return choose(scores, keep)

    def rescore(choice: Choice) -> Mapping[str, Floats]:
        left = left_of(search, choice)
        return {g.id: s for g, s in zip(left.rated.groups, left.scores(), strict=True)}

    return rescored(
        space.groups, scores, keep, options.steps, options.schedule, choose, rescore, search.setting.progress
    )
