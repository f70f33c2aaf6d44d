"""Fine-tuning: updates, one after the other, and the best state on samples that nothing was fitted to."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from ..contracts.finetuned import Finetuned
from ..contracts.finetuning import FinetuneOptions
from ..errors import Infeasible, InputError
from ..gradients import Loss, Runner, backward, with_weights
from ..graph import Array, Network
from ..types import Progress
from . import checkpoint
from .deck import Deck
from .optimiser import Stepper, share, sizes
from .pull import Pull
from .referee import Referee
from .trainable import Trainable

DEFAULT_UPDATES = 1200

RATES = (1e-4, 1e-3, 3e-3, 1e-2)
"""What a range test tries. Of a network of many different sizes the least is the best, of one trained from
scratch on a few digits the largest."""

TRIAL = (10, 120)
"""Updates of one try of the range test, at the least and the most."""

_LAST = 5
"""Updates whose loss says how far a try has come."""

LOOKS = 20
"""How often the result is judged on the way."""

FEW = 64
"""With fewer samples only scales and biases change."""


@dataclass(frozen=True, eq=False)
class Lessons:
    """What there is to learn, and who judges.

    Attributes:
        network: the network that learns.
        loss: what is made small.
        deck: samples to learn from.
        parameters: what can change.
        choose: judges states on the way, and rates.
        judge: judges the result once, on other samples where there are enough.
    """

    network: Network
    loss: Loss
    deck: Deck
    parameters: Trainable
    choose: Referee
    judge: Referee


class NotFinite(Exception):
    """Steps were too long, and the loss has no value any more."""


@dataclass
class _Run:
    """A run under way."""

    lessons: Lessons
    options: FinetuneOptions
    runner: Runner
    stay: Mapping[str, Array] = field(default_factory=dict)

    def start(self, weights: Mapping[str, Array]) -> None:
        """Set the weights."""
        for name, array in self.runner.weights.items():
            array[...] = weights[name]

    def update(self, number: int, stepper: Stepper, rate: float) -> float:
        """One update; returns the loss before it.

        Raises:
            NotFinite: the loss or a gradient isn't finite.
        """
        total, seen = 0.0, 0
        gradients: dict[str, Array] = {}
        for feeds, count in self.lessons.deck.batches(number, self.options.batch):
            step = self.runner.step(feeds)
            total, seen = total + step.loss * count, seen + count
            for name, gradient in step.gradients.items():
                if name in gradients:
                    gradients[name] += gradient * np.float32(count)
                else:
                    gradients[name] = gradient * np.float32(count)
        gradients = {name: gradient / np.float32(seen) for name, gradient in gradients.items()}
        if not math.isfinite(total) or not all(np.isfinite(g).all() for g in gradients.values()):
            raise NotFinite
        stepper.take(self.runner.weights, gradients, rate)
        for name, mask in self.stay.items():
            self.runner.weights[name] *= mask
        return total / seen

    def held_out(self, referee: Referee) -> float:
        """What is lost with the weights as they are."""
        return referee.loss(with_weights(self.lessons.network.graph, self.runner.weights))

    def weights(self) -> dict[str, Array]:
        """A copy of the weights."""
        return {name: array.copy() for name, array in self.runner.weights.items()}


def finetuned(
    lessons: Lessons,
    options: FinetuneOptions,
    *,
    resume: Path | None = None,
    progress: Progress = lambda _: None,
) -> Finetuned:
    """A network that has learned.

    The best state on the samples that choose is the result, if the samples that judge agree that it is better
    than the start; else the start is.

    Args:
        lessons: what there is to learn.
        options: how.
        resume: a file that says where a run is: written on the way, read where it exists, and removed in the
            end.
        progress: told how far it is.

    Raises:
        InputError: the checkpoint is of another run, or the network or its loss is not finite from the start.
    """
    names = _chosen(lessons, options)
    graph = lessons.network.graph
    runner = Runner(backward(graph, lessons.network.facts, lessons.loss, names))
    stay = {
        name: (array != 0).astype(array.dtype)
        for name, array in runner.weights.items()
        if name in lessons.parameters.weights and (array == 0).any()
    }
    run = _Run(lessons, options, runner, stay)
    key = _key(lessons, options, names)
    known = None if resume is None else checkpoint.load(resume, key)
    made = _begun(run, progress) if known is None else _restored(run, known)
    made.go(resume, key, progress)
    after, before = made.judged()
    best = made.best_update if after < before else 0
    weights = made.best if best else made.first
    if resume is not None:
        resume.unlink(missing_ok=True)
    notes = _notes(lessons, names, stay, best)
    network = lessons.network.of(with_weights(graph, weights)) if best else lessons.network
    return Finetuned(network, made.updates, made.rate, best, before, after if best else before, notes)


@dataclass
class _Course:
    """A run with all that has to be known to go on."""

    run: _Run
    stepper: Stepper
    rate: float
    updates: int
    first: Mapping[str, Array]
    best: Mapping[str, Array]
    best_loss: float
    best_update: int = 0
    done: int = 0

    def go(self, resume: Path | None, key: str, progress: Progress) -> None:
        """Take the updates that are left."""
        options, started, before = self.run.options, time.monotonic(), self.done
        every = max(1, self.updates // LOOKS)
        while self.done < self.updates:
            rate = self.rate * share(self.done, self.updates, options.warmup)
            try:
                loss = self.run.update(self.done, self.stepper, rate)
            except NotFinite:
                return  # the best state so far is finite
            self.done += 1
            if self.done % every == 0 or self.done == self.updates:
                held_out = self.run.held_out(self.run.lessons.choose)
                if held_out < self.best_loss:
                    self.best, self.best_loss = self.run.weights(), held_out
                    self.best_update = self.done
                left = (time.monotonic() - started) / (self.done - before) * (self.updates - self.done)
                progress(
                    f"Fine-tuning: update {self.done} of {self.updates}, loss {loss:.4g}, "
                    f"held out {held_out:.4g}, {left:.0f} s left"
                )
                if resume is not None:
                    checkpoint.save(self._state(key), resume)

    def judged(self) -> tuple[float, float]:
        """What the best state and the start lose on samples that judge."""
        found = []
        for weights in (self.best, self.first):
            self.run.start(weights)
            found.append(self.run.held_out(self.run.lessons.judge))
        return found[0], found[1]

    def _state(self, key: str) -> checkpoint.State:
        about = {
            "rate": self.rate,
            "updates": self.updates,
            "done": self.done,
            "best_loss": self.best_loss,
            "best_update": self.best_update,
            "usual": self.stepper.usual,
            "taken": self.stepper.taken,
        }
        arrays = {
            "weights": self.run.runner.weights,
            "best": self.best,
            "first": self.stepper.first,
            "second": self.stepper.second,
        }
        return checkpoint.State(key, about, arrays)


def pulled(
    lessons: Lessons, options: FinetuneOptions, pull: Pull, *, progress: Progress = lambda _: None
) -> Network:
    """A network that has learned to do without some of its weights: they are all but zero.

    It is not judged: with what is to go still in it, it says little of what it will be worth.

    Args:
        lessons: what there is to learn.
        options: how; a rate of 0.001 where none is given.
        pull: on which weights, and how.
        progress: told how far it is.

    Raises:
        Infeasible: the loss is not finite any more.
    """
    graph, facts = lessons.network.graph, lessons.network.facts
    runner = Runner(backward(graph, facts, lessons.loss, lessons.parameters.all))
    run = _Run(lessons, options, runner)
    stepper = Stepper(options.optimiser, sizes(run.weights()), options.decay, options.clip)
    updates, rate = _updates(run, stepper.sizes, run.weights()), options.rate or 1e-3
    masks = {name: mask for name, mask in pull.masks.items() if name in runner.weights}
    here = replace(pull, masks=masks)
    for number in range(updates):
        try:
            loss = run.update(number, stepper, rate * share(number, updates, options.warmup))
        except NotFinite:
            hint = "say a lower rate, or leave out --regularize"
            raise Infeasible("the loss is not finite any more", where=graph.where, hint=hint) from None
        here.apply(runner.weights, number, updates)
        if number % max(1, updates // LOOKS) == 0:
            progress(f"Pulling what goes to zero: update {number + 1} of {updates}, loss {loss:.4g}")
    return lessons.network.of(with_weights(graph, runner.weights))


def _begun(run: _Run, progress: Progress) -> _Course:
    first = run.weights()
    options = run.options
    held_out = run.held_out(run.lessons.choose)
    scales = sizes(first)
    updates = _updates(run, scales, first)
    rate = options.rate or _best_rate(run, scales, first, updates, progress)
    run.start(first)
    stepper = Stepper(options.optimiser, scales, options.decay, options.clip)
    return _Course(run, stepper, rate, updates, first, first, held_out)


def _restored(run: _Run, state: checkpoint.State) -> _Course:
    first, about, options = run.weights(), state.about, run.options
    stepper = Stepper(
        options.optimiser,
        sizes(first),
        options.decay,
        options.clip,
        dict(state.arrays["first"]),
        dict(state.arrays["second"]),
        float(about["usual"]),
        int(about["taken"]),
    )
    run.start(state.arrays["weights"])
    return _Course(
        run,
        stepper,
        float(about["rate"]),
        int(about["updates"]),
        first,
        state.arrays["best"],
        float(about["best_loss"]),
        int(about["best_update"]),
        int(about["done"]),
    )


def _updates(run: _Run, scales: Mapping[str, float], first: Mapping[str, Array]) -> int:
    """How many updates there will be; for a time, as many as it is enough for."""
    options, deck = run.options, run.lessons.deck
    if options.epochs is not None:
        return max(1, math.ceil(options.epochs * deck.count / options.batch))
    if options.time is None:
        return options.updates or DEFAULT_UPDATES
    stepper = Stepper(options.optimiser, scales)
    run.update(0, stepper, 0.0)
    started = time.monotonic()
    for number in range(1, 4):
        run.update(number, stepper, 0.0)
    each = (time.monotonic() - started) / 3
    run.start(first)
    trials = 0 if options.rate else len(RATES) * TRIAL[1]
    return max(1, int(0.9 * options.time * 60 / max(each, 1e-6)) - trials)


def _best_rate(
    run: _Run, scales: Mapping[str, float], first: Mapping[str, Array], updates: int, progress: Progress
) -> float:
    """The rate with which a short run from the start loses least on samples that choose.

    Where all of them lose all there is to lose, as a network that nothing has repaired may, the loss that
    they learn from says more.
    """
    options = run.options
    count = min(max(TRIAL[0], updates // 10), TRIAL[1])
    found: dict[float, tuple[float, float]] = {}
    for rate in RATES:
        run.start(first)
        stepper = Stepper(options.optimiser, scales, options.decay, options.clip)
        try:
            steps = [rate * share(number, count, options.warmup) for number in range(count)]
            losses = [run.update(number, stepper, step) for number, step in enumerate(steps)]
            found[rate] = (run.held_out(run.lessons.choose), float(np.mean(losses[-_LAST:])))
        except NotFinite:
            break
        lost = found[rate][0]
        progress(f"Fine-tuning: steps of {rate:g} lose {lost:.4g} after {count} updates")
    if not found:
        raise InputError("the loss is not finite", where=run.lessons.network.where)
    return min(found, key=lambda rate: found[rate])


def _chosen(lessons: Lessons, options: FinetuneOptions) -> tuple[str, ...]:
    """What changes."""
    few = options.parameters == "vectors" or (options.parameters == "auto" and lessons.deck.count < FEW)
    return lessons.parameters.vectors if few and lessons.parameters.vectors else lessons.parameters.all


def _key(lessons: Lessons, options: FinetuneOptions, names: tuple[str, ...]) -> str:
    """The same for the same run."""
    said = {**asdict(replace(options, memory=0.0)), "names": names}
    found = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for part in (lessons.network.digest, lessons.deck.digest, lessons.choose.digest):
        found.update(part.encode())
    return found.hexdigest()


def _notes(lessons: Lessons, names: tuple[str, ...], stay: Mapping[str, Array], best: int) -> tuple[str, ...]:
    found = []
    if not best:
        found.append("fine-tuning found nothing better than the start on held-out samples: it is the result")
    if len(names) < len(lessons.parameters.all):
        found.append(f"only scales and biases were fine-tuned, as there are {lessons.deck.count} samples")
    for name, obstacle in lessons.parameters.fixed.items():
        found.append(f"'{name}' was not fine-tuned: {obstacle}")
    if stay:
        found.append(f"zeros in {len(stay)} weights stayed zeros")
    return tuple(found)
