"""What a user asks for: a budget, and how it is met. An option is declared here and nowhere else."""

# Annotations are evaluated here: they hold what `contracts.options` reads.

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from ..contracts import budget, rules
from ..contracts.budget import Amount, Budget, Uniform
from ..contracts.choices import Among, Granularity, Mode, Schedule
from ..contracts.options import Option, Unless, check_ranges, check_sense, declared, given
from ..errors import UsageError

if TYPE_CHECKING:
    from ..criteria import Criterion
    from ..quality.metrics import Function
    from ..strategies.widths import Widths

_COSTS = ("macs", "params", "size", "latency", "memory_peak")
_ALONE = ("ratio", "select", "inbound")


def _alone(name: str) -> tuple[Unless, ...]:
    others = [other for other in (*_ALONE, *_COSTS, "max_drop") if other != name]
    return tuple(
        Unless(o, f"can't be combined with --{o.replace('_', '-')}", "leave one of them out") for o in others
    )


_AMOUNT = "SHARE|AMOUNT"
_CHANNELS = ("ratio", "select", "inbound", *_COSTS, "max_drop", "pareto")


@dataclass(frozen=True)
class BudgetOptions:
    """How much stays: `ratio`, `select` or `inbound`, or costs together; `sparsity` alone, or after these.

    Attributes:
        ratio: Share of the channels of every group to remove.
        macs: Multiply-accumulates to keep: 0.5, '300 MMACs'.
        params: Parameters to keep: 0.5, 2M.
        size: Size of the file to keep: 0.5, 8MB.
        latency: Time of a run on this machine to keep: 0.6, 5ms.
        memory_peak: Memory in use during a run to keep: 0.5, 64MB.
        max_drop: How far the metric may fall: 1%; without another budget, prune as much as this allows.
        metric: What may fall: accuracy, agreement, or a function of yours, module:function.
        select: What a rule keeps of every group: percentile:MU, deviations:K or count:N.
        inbound: Share of the input channels that every filter keeps.
        sparsity: Share of the single weights to zero in place; with a budget of channels, after these went.
    """

    TITLE: ClassVar[str] = "Budget"

    ratio: Annotated[float | None, Option(metavar="SHARE", between=(0, 1), unless=_alone("ratio"))] = None
    macs: Annotated[Amount | None, Option(metavar=_AMOUNT, cli=str)] = None
    params: Annotated[Amount | None, Option(metavar=_AMOUNT, cli=str)] = None
    size: Annotated[Amount | None, Option(metavar=_AMOUNT, cli=str)] = None
    latency: Annotated[Amount | None, Option(metavar=_AMOUNT, cli=str)] = None
    memory_peak: Annotated[Amount | None, Option(metavar=_AMOUNT, cli=str)] = None
    max_drop: Annotated[Amount | None, Option(metavar="DROP", cli=str)] = None
    metric: Annotated["str | Function | None", Option(cli=str, requires=("max_drop",))] = None
    select: Annotated[str | None, Option(metavar="RULE", unless=_alone("select"))] = None
    inbound: Annotated[float | None, Option(metavar="SHARE", between=(0, 1), unless=_alone("inbound"))] = None
    sparsity: Annotated[float | None, Option(metavar="SHARE", between=(0, 1))] = None

    @cached_property
    def channels(self) -> Budget | None:
        """The budget of channels, or of kernels; `None` where none is given.

        Raises:
            UsageError: an amount can't be read.
        """
        from ..cost.quantities import read

        limits = tuple(
            read(f"--{name.replace('_', '-')}", amount)
            for name in _COSTS
            if (amount := getattr(self, name)) is not None
        )
        drop = None if self.max_drop is None else budget.drop(str(self.max_drop))
        uniform = None
        if self.ratio is not None:
            uniform = Uniform("--ratio", keep=1 - self.ratio)
        elif self.select is not None:
            uniform = Uniform("--select", rule=rules.parsed(self.select))
        elif self.inbound is not None:
            uniform = Uniform("--inbound", keep=self.inbound)
        if not limits and uniform is None and drop is None:
            return None
        return Budget(limits, uniform, drop, self.metric)

    @property
    def weights(self) -> Budget | None:
        """The budget of single weights; `None` where none is given."""
        return (
            None if self.sparsity is None else Budget(uniform=Uniform("--sparsity", keep=1 - self.sparsity))
        )


@dataclass(frozen=True)
class Options(BudgetOptions):
    """How a budget is met.

    Attributes:
        pareto: Write N models along the curve of cost against quality.
        inbound_groups: Let G groups of filters read their own channels, if faster.
        sparsity_among: Which weights compete; 'auto': those of an output with samples, else all.
        steps: Go there in so many steps, with statistics refreshed after each.
        schedule: How much is removed in each step.
        masked: Set removed channels to zero and keep every shape; no repair.
        criterion: What a channel is worth; 'obs' with samples, 'l1' without. See docs/criteria.md.
        loss: What criteria of the loss look at: an ONNX graph from outputs, and 'labels', to a number.
        repair: How the weights that are left make up for what is gone.
        round_to: Keep multiples of N channels; 'auto': the multiple that kernels prefer.
        min_channels: Keep at least this many channels of each group.
        keep: Nodes or weights (with * and ?) to leave alone.
        granularity: What may go of attention: auto, head or width.
        allow_approximate: Also remove channels that a normalisation runs over; not exact.
        simplify: Clean the graph first.
        evaluations: Effort for measuring groups at the outputs and comparing candidates; 0: none.
        memory: Bytes (GB on the command line) of activations to hold before they go to a temporary folder.
        batch: Samples that run together, where the model allows it; 1 where latency is measured.
        seed: Of everything random.
        force: Write even if it is not faster or drifts far.
    """

    TITLE: ClassVar[str] = "How it is met"

    pareto: Annotated[
        int | None,
        Option(
            metavar="N",
            low=2,
            decides=False,
            unless=tuple(Unless(name, "needs a cost budget", "use --macs") for name in (*_ALONE, "sparsity")),
        ),
    ] = None
    inbound_groups: Annotated[int, Option(metavar="G", low=0, requires=("inbound",))] = 0
    sparsity_among: Annotated[Among, Option(requires=("sparsity",))] = "auto"
    steps: Annotated[
        int,
        Option(
            low=1, unless=(Unless("select", "goes with a share, not with --select", "leave out --steps"),)
        ),
    ] = 1
    schedule: Annotated[Schedule, Option(requires=("steps",))] = "linear"
    masked: Annotated[
        bool,
        Option(
            requires=_CHANNELS,
            unless=(
                Unless(
                    "repair",
                    "what is masked is not repaired: it is what pruning alone gives",
                    values=("auto", "none"),
                ),
                Unless("allow_approximate", "a normalisation over zeros is not one over what is left"),
                Unless("inbound", "--inbound zeroes kernels in place already", "leave out --masked"),
                Unless("sparsity", "--sparsity zeroes weights in place already", "leave out --masked"),
            ),
        ),
    ] = False
    criterion: Annotated["str | Criterion | None", Option(cli=str, metavar="NAME")] = None
    loss: Annotated[str | None, Option(metavar="FILE", requires=("criterion",))] = None
    repair: Mode = "auto"
    round_to: Annotated[int | Literal["auto"], Option(metavar="N", low=1, requires=_CHANNELS)] = "auto"
    min_channels: Annotated[int, Option(low=1, requires=_CHANNELS)] = 1
    keep: Annotated[Sequence[str], Option(cli=list[str], metavar="PATTERN")] = ()
    granularity: Annotated[Granularity, Option(requires=_CHANNELS)] = "auto"
    allow_approximate: Annotated[bool, Option(requires=_CHANNELS)] = False
    simplify: bool = True
    evaluations: Annotated[int, Option(flag="--evals", low=0)] = 200
    memory: Annotated[float, Option(low=0, decides=False, unit=1e9, metavar="GB")] = 2e9
    batch: Annotated[int, Option(low=1, decides=False)] = 32
    seed: int = 0
    force: Annotated[bool, Option(decides=False)] = False

    def __post_init__(self) -> None:
        """Check it.

        Raises:
            UsageError: a value is out of its range, or can't be read.
        """
        check_ranges(self)
        _ = self.channels

    def require_sense(self) -> None:
        """Refuse options that ask for nothing, or contradict one another.

        Raises:
            UsageError: they do.
        """
        check_sense(self)
        if self.channels is None and self.weights is None and self.pareto is None:
            *names, last = (d.flag for d in declared(BudgetOptions) if d.name != "metric")
            raise UsageError("no budget is given", hint=f"give {', '.join(names)} or {last}")

    def widths(self, multiple: int) -> "Widths":
        """Which widths groups may have, if kernels like multiples of so many."""
        from ..strategies.widths import Widths

        if self.round_to == "auto":
            return Widths(multiple, strict=False, least=self.min_channels)
        return Widths(self.round_to, least=self.min_channels)

    def recorded(self, criterion: str) -> dict[str, Any]:
        """What decides about the result, for the plan."""
        budget_fields = {d.name for d in declared(BudgetOptions)}
        asked = {name: value for name, value in given(self).items() if name in budget_fields}
        metric = asked.pop("metric", None)
        if self.max_drop is not None:
            asked["metric"] = metric if isinstance(metric, str) else getattr(metric, "__name__", None)
        rest = {
            d.name: getattr(self, d.name)
            for d in declared(self)
            if d.name not in budget_fields and d.option.decides and d.name != "criterion"
            if d.name in given(self) or not d.option.requires
        }
        return {**asked, "criterion": criterion, **rest, "keep": list(self.keep)}
