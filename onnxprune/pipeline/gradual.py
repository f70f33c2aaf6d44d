"""Fine-tuning as a part of pruning: at the end, after each step, or after each layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..contracts.cut import without as without_units
from ..contracts.finetuned import Finetuned
from ..contracts.groups import Choice, Group
from ..contracts.reduction import CannotCut, ChannelUnits
from ..contracts.repaired import Repaired
from ..contracts.selection import keep_best
from ..contracts.traces import Chained, Unchanged
from ..contracts.verdict import Omission
from ..criteria import Context
from ..errors import Infeasible, UsageError
from ..graph import Network
from ..proof import prove
from ..runtime import Feeds
from ..tuning import FinetuneOptions
from ..types import Mask
from .finetuning import towards_outputs, tuned, without
from .search import Search, Solved, evidence_of, in_network


def rewound(run: Solved, earlier: Network) -> Solved:
    """The same cut of the network as it was earlier: its weights at the units that stay, nothing repaired.

    Source: Frankle and Carbin 2019, The Lottery Ticket Hypothesis; of a later point of training: Renda,
    Frankle and Carbin 2020, Comparing Rewinding and Fine-tuning.

    Args:
        run: what the last phase has come to.
        earlier: the network that was cut, with other weights.

    Raises:
        UsageError: layers were added, which the earlier network has not.
    """
    if run.candidate.widened or run.search.base is not run.search.setting.loaded.network:
        hint = "leave out --sparsity after channels, and --repair reuse"
        raise UsageError("what was cut is not the network as it was loaded", where="--rewind", hint=hint)
    cut = without_units(earlier, run.search.spaces, run.choice)
    repaired = Repaired(cut.network, "none", notes=(f"weights are those of {earlier.where}",))
    return replace(run, candidate=replace(run.candidate, cut=cut, repaired=repaired))


def after_repair(
    run: Solved, options: FinetuneOptions, feeds: Feeds
) -> tuple[Solved, FinetuneOptions | None]:
    """A repaired candidate, fine-tuned towards the original.

    Args:
        run: what the last phase has come to.
        options: how.
        feeds: what a cut is proved on.

    Returns:
        The same with fine-tuned weights, and how to do it again; `None` where it was left out.

    Raises:
        UsageError: there is nothing to learn from, or layers can't go one after another.
    """
    options = towards_outputs(options)
    try:
        if options.regularize != "none":
            run = _regularized(run, options)
        if options.order == "layers":
            run = _by_layers(run, options, feeds)
        found = _tuned(run.search, run.candidate.network, options)
    except Infeasible as error:
        omitted = Omission("fine-tuning", f"left out: {error.reason}", error.hint or "")
        candidate = replace(run.candidate, omitted=(*run.candidate.omitted, omitted))
        return replace(run, candidate=candidate), None
    told = (
        f"fine-tuned: {found.updates} updates, steps of {found.rate:g}; held-out loss {found.before:.3g} -> "
        f"{found.after:.3g}"
    )
    notes = (*run.candidate.repaired.notes, told, *found.notes)
    repaired = replace(run.candidate.repaired, network=found.network, notes=notes)
    again = options.repeated(found.updates, found.rate)
    return replace(run, candidate=replace(run.candidate, repaired=repaired)), again


def _tuned(search: Search, network: Network, options: FinetuneOptions) -> Finetuned:
    setting = search.setting
    return tuned(network, setting.loaded.graph, search.evidence, options, setting.progress)


def _channels_alone(run: Solved) -> ChannelUnits | None:
    """The channels that go, where nothing else goes and no layer was added; else `None`."""
    space = run.search.rated
    alone = len(run.search.spaces) == 1 and not run.candidate.widened
    return space if alone and isinstance(space, ChannelUnits) else None


def _regularized(run: Solved, options: FinetuneOptions) -> Solved:
    """The same cut of a network that has learned to do without what goes.

    Raises:
        UsageError: other units than channels go, or several phases do.
    """
    search = run.search
    space = _channels_alone(run)
    if space is None:
        hint = "leave out --regularize"
        raise UsageError("it pulls channels to zero, where these go alone", where="--regularize", hint=hint)
    setting = search.setting
    masks = _weights_of(space, run.choice)
    base = without(search.base, setting.loaded.graph, search.evidence, options, masks, setting.progress)
    other = in_network(search, base)
    made = other.maker.candidate(run.choice)
    note = f"what goes was pulled to zero before ({options.regularize})"
    repaired = replace(made.repaired, notes=(*made.repaired.notes, note))
    return replace(run, search=other, candidate=replace(made, repaired=repaired))


def _weights_of(space: ChannelUnits, choice: Choice) -> dict[str, Mask]:
    """Weight -> its values that belong to units that go, at all that read it."""
    kept, graph = space.effect.kept(choice), space.network.graph
    found: dict[str, Mask] = {}
    for member in space.effect.members:
        gone = np.zeros(member.view, bool)
        for place in member.places:
            shape = [n if a in place.axes else 1 for a, n in enumerate(member.view)]
            gone |= ~kept[place.units].reshape(shape)
        mask = gone.reshape(graph.shape_of_constant(member.constant))
        found[member.constant] = found[member.constant] & mask if member.constant in found else mask
    return {name: mask for name, mask in found.items() if mask.any()}


def _by_layers(run: Solved, options: FinetuneOptions, feeds: Feeds) -> Solved:
    """The same widths, one group after the other from the input, each followed by a little fine-tuning.

    How many units of a group stay was decided before; which of them, the criterion says anew on the network
    that the groups before it have left.

    Raises:
        UsageError: other units than channels go, or several phases do.
    """
    search = run.search
    rated = _channels_alone(run)
    if rated is None:
        hint = "leave out --order layers"
        raise UsageError("layers go one after another where channels go alone", where="--order", hint=hint)
    now = in_network(search, search.base)
    total = Choice()
    groups = sorted((g for g in rated.groups if run.choice.cuts(g)), key=rated.start)
    for number, group in enumerate(groups, 1):
        search.setting.progress(f"Layer {number} of {len(groups)}: {group.name}")
        kept = _kept(now, group, run.choice.of(group))
        made = now.maker.candidate(Choice({group.id: kept}))
        prove(made.cut, feeds)
        total = total.with_group(group, kept)
        few = replace(options, epochs=options.between, updates=None, time=None)
        found = _tuned(search, made.network, few)
        trace = made.cut.trace
        before = trace if isinstance(now.before, Unchanged) else Chained(now.before, trace)
        now = replace(in_network(now, found.network), before=before)
    cut = search.maker.cut(total)
    notes = (f"layers were cut one after another, {options.between:g} epochs of fine-tuning after each",)
    repaired = Repaired(
        now.base, run.candidate.repaired.mode, before=run.candidate.repaired.before, notes=notes
    )
    candidate = replace(run.candidate, cut=cut, repaired=repaired)
    return replace(run, choice=total, candidate=candidate)


def _kept(search: Search, group: Group, planned: Mask) -> Mask:
    """Which units of a group stay in the network as it is now, as many as were decided on."""
    if search.phase.planned is not None:
        return planned
    own = next((k for k, one in enumerate(search.rated.groups) if one.id == group.id), None)
    if own is None:
        return planned
    evidence = evidence_of(search, search.base, search.spaces)
    context = Context(search.rated, evidence.stats, search.options.seed, evidence.fit)
    scores = search.phase.criterion.scores(context)[own]
    kept = keep_best(group, scores, int(planned.sum()))
    try:
        search.maker.cut(Choice({group.id: kept}))
    except CannotCut:
        return planned
    return kept if kept.sum() == planned.sum() else planned
