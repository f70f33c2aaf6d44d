"""How a network is fine-tuned. An option is declared here and nowhere else."""

# Annotations are evaluated here: they hold what `contracts.options` reads.

import re
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal, cast, get_args

from ..errors import UsageError
from .options import Option, Unless, check_ranges, check_sense

Towards = Literal["auto", "outputs", "labels", "both"]
Optimiser = Literal["adam", "sgd"]
Parameters = Literal["auto", "all", "vectors"]
Order = Literal["once", "layers"]
Regularize = Literal["none", "l1", "group-l2"]
Augment = Literal["auto", "none", "shift", "flip", "mix", "noise"]

_LENGTHS = ("epochs", "updates", "time")


def minutes(text: str) -> float:
    """A length of time in minutes, of a text: `90s`, `10m`, `1h`, or minutes.

    Raises:
        UsageError: it is none.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(s|m|min|h)?\s*", text)
    if found is None:
        raise UsageError(f"'{text}' is no length of time", where="--time", hint="such as 90s, 10m or 1h")
    return float(found[1]) * {"s": 1 / 60, "h": 60.0}.get(found[2], 1.0)


def augmentations(text: str) -> tuple[Augment, ...]:
    """Names of augmentations, of a text with commas between them.

    Raises:
        UsageError: there is no such augmentation.
    """
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        if name not in get_args(Augment):
            hint = f"there are: {', '.join(get_args(Augment))}"
            raise UsageError(f"there is no augmentation '{name}'", where="--augment", hint=hint)
    return cast("tuple[Augment, ...]", names)


def _length(name: str) -> Option:
    others = tuple(
        Unless(other, f"can't be combined with --{other}", "leave one of them out")
        for other in _LENGTHS
        if other != name
    )
    if name == "time":
        return Option(metavar="TIME", cli=str, read=minutes, between=(0, float("inf")), unless=others)
    return Option(metavar="N", between=(0, float("inf")), unless=others)


@dataclass(frozen=True)
class FinetuneOptions:
    """How a network is fine-tuned.

    Attributes:
        epochs: Go through the samples so many times.
        updates: Change the weights so many times; 1200 where nothing is said.
        time: How long it may take: minutes, or 90s, 10m, 1h; the number of updates is reported, to repeat it.
        towards: What it shall say: the original's outputs, labels, or both; 'auto': both where labels are.
        optimiser: Adam, or gradient descent with momentum.
        rate: The first step, relative to the size of each tensor; by default a short test finds it.
        warmup: Updates in which steps grow to that size.
        batch: Samples of each update.
        decay: Weight decay, relative to the step.
        clip: Gradients longer than so many times their usual length are shortened; 0: never.
        parameters: What changes: all weights, or only scales and biases; 'auto': these where samples are few.
        order: In 'prune': fine-tune once, at the end, or layer by layer from the input, too.
        between: Epochs after each layer, or after each of --steps; 0: none after steps.
        regularize: In 'prune': pull what will go to zero first, for as many epochs as --between says.
        augment: Change samples at random: shift, flip, mix, noise; 'auto': shift images, without labels.
        memory: Bytes (GB on the command line) of samples and outputs to hold.
        seed: Of everything random.
    """

    TITLE: ClassVar[str] = "Fine-tuning"

    epochs: Annotated[float | None, _length("epochs")] = None
    updates: Annotated[int | None, _length("updates")] = None
    time: Annotated[float | None, _length("time")] = None
    towards: Towards = "auto"
    optimiser: Optimiser = "adam"
    rate: Annotated[float | None, Option(between=(0, 1))] = None
    warmup: Annotated[int, Option(low=0)] = 20
    batch: Annotated[int, Option(low=1)] = 16
    decay: Annotated[float, Option(low=0)] = 0.0
    clip: Annotated[float, Option(low=0)] = 3.0
    parameters: Parameters = "auto"
    order: Order = "once"
    between: Annotated[float, Option(low=0)] = 1.0
    regularize: Regularize = "none"
    augment: Annotated[tuple[Augment, ...], Option(cli=str, read=augmentations, metavar="NAMES")] = ("auto",)
    memory: Annotated[float, Option(low=0, decides=False, unit=1e9, metavar="GB")] = 2e9
    seed: int = 0

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            UsageError: a value is out of its range, or options contradict one another.
        """
        check_ranges(self)
        check_sense(self)

    def repeated(self, updates: int, rate: float) -> "FinetuneOptions":
        """The options that do a run again, whatever ended it.

        Args:
            updates: how many there were.
            rate: the first step.
        """
        return replace(self, updates=updates, epochs=None, time=None, rate=rate)
