"""`finetune`: a small model learns what its teacher says, or labels, or both."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..contracts.finetuned import Finetuned
from ..contracts.finetuning import Augment
from ..contracts.options import declared
from ..contracts.options import given as given_of
from ..contracts.sampling import Calibration, Source
from ..errors import InputError, UsageError
from ..execution.sessions import open_session
from ..gradients import weighted
from ..gradients.heads import heads, taps
from ..graph import Array, Graph, Network, load, save
from ..samples import Samples
from ..samples.core import batch_size
from ..tuning import (
    Both,
    Deck,
    FinetuneOptions,
    Lessons,
    OfLabels,
    OfOutputs,
    Pull,
    Referee,
    Teacher,
    Trainable,
    finetuned,
    of_labels,
    pulled,
    trainable,
)
from ..types import Mask, Progress
from .evidence import (
    HELD_BACK,
    Evidence,
    Labelled,
    labelled_if_given,
    opened,
    sample_sizes,
    split,
)

JUDGED = 256
"""Samples that a state is judged on, at the most."""

EXAMPLES, BATCH = 8, 32
"""Batches that sizes of outputs are told by, and how many samples each has."""


@dataclass(frozen=True, eq=False)
class Tuned:
    """A fine-tuned model.

    Attributes:
        graph: the model; `save` writes it.
        found: what the fine-tuning has come to.
        options: how to do it again: with the number of updates and the rate that were found.
        notes: what the user should know.
    """

    graph: Graph
    found: Finetuned
    options: FinetuneOptions
    notes: tuple[str, ...] = ()

    def save(self, path: str | os.PathLike[str]) -> int:
        """Write the model, whole or not at all; returns the bytes written."""
        return save(self.graph, path)


def finetune(
    student: str | os.PathLike[str] | Graph,
    teacher: str | os.PathLike[str] | Graph | None = None,
    calib: Source | Calibration | None = None,
    options: FinetuneOptions | None = None,
    *,
    labels: str | os.PathLike[str] | Labelled | None = None,
    resume: str | os.PathLike[str] | None = None,
    progress: Progress = lambda _: None,
    **given: Any,
) -> Tuned:
    """Fine-tune a model: towards what its teacher says, towards labels, or both.

    A tenth of the samples judges the result, and a fifth the states on the way; nothing is fitted to these. A
    result that is no better than the start is the start, and a note says so.

    Args:
        student: the model that learns: a file, or a graph.
        teacher: the model that it was made from; without one only labels count.
        calib: samples; not needed where there are labels.
        options: how.
        labels: an `.npz` with inputs and `labels`.
        resume: a file to write where the run is, so that one that was killed goes on from there.
        progress: told what begins, and how far it is.
        given: fields of `FinetuneOptions`: `updates=600`.

    Raises:
        UsageError: an option is wrong, or there is nothing to learn from.
        Infeasible: no weight of the student can be trained.
        InputError: a model, samples or the checkpoint can't be read or don't fit.

    Example:
        >>> import onnxprune
        >>> model, samples = "models/digits-plain.onnx", "models/digits-calib.npz"
        >>> small = onnxprune.prune(model, ratio=0.5, repair="none", measure_latency=False).graph
        >>> tuned = onnxprune.finetune(small, model, samples, updates=10, rate=1e-3)
        >>> tuned.found.after <= tuned.found.before
        True
    """
    options = FinetuneOptions(**given) if options is None else replace(options, **given)
    for name, plain in (("order", "once"), ("regularize", "none")):
        if getattr(options, name) != plain:
            hint = "give it to prune, with --finetune"
            raise UsageError("is about what pruning removes", where=f"--{name}", hint=hint)
    graph = student if isinstance(student, Graph) else load(student)
    original = teacher if isinstance(teacher, Graph) or teacher is None else load(teacher)
    data = None if calib is None else opened(calib, graph, options.seed)
    marked = labelled_if_given(labels, graph)
    known = data if data is not None else None if marked is None else marked.samples
    network = Network(graph, sample_sizes(known, graph))
    evidence = Evidence() if data is None else split(data, HELD_BACK, options.seed)
    lessons = lessons_of(network, original, evidence, marked, options)
    path = None if resume is None else Path(resume)
    progress("Fine-tuning")
    found = finetuned(lessons, options, resume=path, progress=progress)
    again = options.repeated(found.updates, found.rate)
    return Tuned(found.graph, found, again, (*evidence.notes, *found.notes))


def towards_outputs(options: FinetuneOptions) -> FinetuneOptions:
    """The same; where nothing is said labels judge and are not learned from."""
    return replace(options, towards="outputs") if options.towards == "auto" else options


def tuned(
    network: Network, teacher: Graph, evidence: Evidence, options: FinetuneOptions, progress: Progress
) -> Finetuned:
    """A network that has learned what the original says.

    Args:
        network: the network.
        teacher: the original.
        evidence: samples, and those with labels that may be learned from.
        options: how.
        progress: told how far it is.

    Raises:
        UsageError: there is nothing to learn from.
        Infeasible: no weight can be trained.
    """
    learned = None if options.towards == "outputs" else evidence.learned
    return finetuned(lessons_of(network, teacher, evidence, learned, options), options, progress=progress)


def without(
    network: Network,
    teacher: Graph,
    evidence: Evidence,
    options: FinetuneOptions,
    masks: Mapping[str, Mask],
    progress: Progress,
) -> Network:
    """A network that has learned to do without some of its weights.

    Args:
        network: the network.
        teacher: what it goes on saying.
        evidence: samples, and those with labels that may be learned from.
        options: how, and how long (`between`).
        masks: weight -> which of its values shall go.
        progress: told how far it is.

    Raises:
        UsageError: there is nothing to learn from.
        Infeasible: no weight can be trained, or the loss is not finite any more.
    """
    learned = None if options.towards == "outputs" else evidence.learned
    few = replace(options, epochs=options.between or 1.0, updates=None, time=None)
    lessons = lessons_of(network, teacher, evidence, learned, few)
    return pulled(lessons, few, Pull(options.regularize, masks), progress=progress)


def recorded(options: FinetuneOptions) -> dict[str, Any]:
    """What decides about a fine-tuning, for the plan."""
    kept = {d.name for d in declared(options) if d.option.decides}
    return {
        name: list(v) if isinstance(v, tuple) else v for name, v in given_of(options).items() if name in kept
    }


def read(said: Mapping[str, Any]) -> FinetuneOptions:
    """Options from a plan.

    Raises:
        InputError: they are none.
    """
    values: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in said.items()}
    try:
        return FinetuneOptions(**values)
    except TypeError:
        raise InputError("says nothing that is known of fine-tuning", where="plan") from None


def lessons_of(
    network: Network,
    teacher: Graph | None,
    evidence: Evidence,
    marked: Labelled | None,
    options: FinetuneOptions,
) -> Lessons:
    """What there is to learn, and who judges.

    Args:
        network: the network that learns.
        teacher: what it was made from.
        evidence: samples, by their use.
        marked: samples with labels.
        options: how.

    Raises:
        UsageError: there is nothing to learn from.
        Infeasible: no weight can be trained.
    """
    towards = _towards(options, teacher, evidence, marked)
    parameters = trainable(network.graph, network.facts)
    if towards == "outputs" and teacher is not None:
        return _of_outputs(network, teacher, evidence, marked, parameters, options)
    if marked is None:
        raise ValueError("there are no labels")
    return _of_labels(network, teacher if towards == "both" else None, marked, parameters, options)


def _of_outputs(
    network: Network,
    teacher: Graph,
    evidence: Evidence,
    marked: Labelled | None,
    parameters: Trainable,
    options: FinetuneOptions,
) -> Lessons:
    """The teacher's outputs, on samples without labels."""
    if evidence.fit is None and marked is not None:
        evidence = split(marked.samples, HELD_BACK, options.seed)
    fit, choose, judge = evidence.fit, evidence.choose, evidence.judge
    if fit is None or choose is None or judge is None:
        raise ValueError("there are no samples")
    master = Teacher(teacher, network.graph, _examples(fit))
    augment = _augment(options, auto=("shift",))
    deck = Deck(fit, master.targets, None, augment=augment, memory=options.memory, seed=options.seed)
    referees = [OfOutputs(teacher, some.first(JUDGED).batches()) for some in (choose, judge)]
    return Lessons(network, master.loss(network.graph, network.facts), deck, parameters, *referees)


def _of_labels(
    network: Network,
    teacher: Graph | None,
    marked: Labelled,
    parameters: Trainable,
    options: FinetuneOptions,
) -> Lessons:
    """Labels, and what a teacher says of the same samples if there is one."""
    graph, facts = network.graph, network.facts
    fit, choose, judge = marked.parted(HELD_BACK, options.seed)
    examples = _examples(fit.samples)
    outputs = open_session(graph.tapped(taps(graph))).run(examples[0])
    head = heads(graph, outputs, batch_size(examples[0]))[0]
    loss, name = of_labels(graph, facts, head, marked.labels)
    referees: list[Referee] = [OfLabels(head, some.batches()) for some in (choose, judge)]
    targets = None
    if teacher is not None:
        master = Teacher(teacher, graph, examples)
        targets = master.targets
        loss = weighted([(0.5, loss), (0.5, master.loss(graph, facts))])
        others = [OfOutputs(teacher, some.samples.batches()) for some in (choose, judge)]
        referees = [Both(pair) for pair in zip(referees, others, strict=True)]
    deck = Deck(
        fit.samples,
        targets,
        (name, fit.labels),
        augment=_augment(options, auto=()),
        memory=options.memory,
        seed=options.seed,
    )
    return Lessons(network, loss, deck, parameters, *referees)


def _examples(samples: Samples) -> list[Mapping[str, Array]]:
    return list(samples.first(EXAMPLES * BATCH).batches(BATCH))


def _augment(options: FinetuneOptions, auto: tuple[Augment, ...]) -> tuple[Augment, ...]:
    """How samples are changed, with what suits them in the place of `auto`."""
    found: list[Augment] = []
    for way in options.augment:
        found += auto if way == "auto" else () if way == "none" else (way,)
    return tuple(dict.fromkeys(found))


def _towards(
    options: FinetuneOptions, teacher: Graph | None, evidence: Evidence, marked: Labelled | None
) -> str:
    """What is learned.

    Raises:
        UsageError: what that takes isn't there.
    """
    outputs = teacher is not None and (evidence.fit is not None or marked is not None)
    towards = options.towards
    if towards == "auto":
        towards = "both" if outputs and marked is not None else "labels" if marked is not None else "outputs"
    if towards in ("outputs", "both") and not outputs:
        hint = "give --teacher and --calib, or --labels"
        raise UsageError(
            "there is no teacher, or there are no samples", where=f"--towards {towards}", hint=hint
        )
    if towards in ("labels", "both") and marked is None:
        raise UsageError("there are no labels", where=f"--towards {towards}", hint="give --labels")
    return towards
