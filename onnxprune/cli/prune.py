"""`onnxprune prune`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .. import pipeline
from .. import plan as plans
from ..errors import UsageError
from ..graph import Delivery
from ..reductions.weights import Among
from ..repair import Mode
from ..report import VERSION, Reduced, plan_tables, report, seconds_line, verdict_table, weights_line
from ..report.pareto import pareto_table, plot
from ..strategies.schedule import Kind
from .options import Approximate, Attention, Dims, ProfileIn, ProfileOut, Provider, Threads, timed
from .output import Output, as_json
from .sampling import Labels, sampled

_AMOUNT = "SHARE|AMOUNT"


@sampled
def prune(
    model: Annotated[Path, typer.Argument(help="ONNX file.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Where the pruned model goes.")],
    ratio: Annotated[
        float | None, typer.Option(help="Share of the channels of every group to remove.")
    ] = None,
    macs: Annotated[
        str | None, typer.Option(metavar=_AMOUNT, help="Multiply-accumulates to keep: 0.5, '300 MMACs'.")
    ] = None,
    params: Annotated[str | None, typer.Option(metavar=_AMOUNT, help="Parameters to keep: 0.5, 2M.")] = None,
    size: Annotated[
        str | None, typer.Option(metavar=_AMOUNT, help="Size of the file to keep: 0.5, 8MB.")
    ] = None,
    latency: Annotated[
        str | None, typer.Option(metavar=_AMOUNT, help="Time of a run on this machine to keep: 0.6, 5ms.")
    ] = None,
    memory_peak: Annotated[
        str | None, typer.Option(metavar=_AMOUNT, help="Memory in use during a run to keep: 0.5, 64MB.")
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(metavar="DROP", help="How far the metric may fall: 1%; alone: prune the most."),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="What may fall: accuracy, agreement, or a function of yours, module:function."),
    ] = None,
    select: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="What a rule keeps of every group: percentile:MU, deviations:K or count:N.",
        ),
    ] = None,
    inbound: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="Share of the input channels that every filter keeps."),
    ] = None,
    inbound_groups: Annotated[
        int,
        typer.Option(min=0, metavar="G", help="Let G groups of filters read their own channels, if faster."),
    ] = 0,
    sparsity: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Share of the single weights to zero in place.")
    ] = None,
    sparsity_among: Annotated[
        Among, typer.Option(help="Which weights compete; 'auto': those of an output with samples, else all.")
    ] = "auto",
    pareto: Annotated[
        int | None,
        typer.Option(min=2, metavar="N", help="Write N models along the curve of cost against quality."),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, help="Go there in so many steps, with statistics refreshed after each.")
    ] = 1,
    schedule: Annotated[Kind, typer.Option(help="How much goes in each step.")] = "linear",
    masked: Annotated[
        bool, typer.Option("--masked", help="Zero in place what would go: every shape stays, no repair.")
    ] = False,
    criterion: Annotated[
        str | None,
        typer.Option(help="What a channel is worth; 'obs' with samples, 'l1' without. See docs/criteria.md."),
    ] = None,
    repair: Annotated[
        Mode, typer.Option(help="How the weights that are left make up for what is gone.")
    ] = "auto",
    calib: pipeline.Calibration | None = None,
    labels: Labels = None,
    stats: Annotated[Path | None, typer.Option(help="Statistics that 'calibrate' wrote.")] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, help="Samples that run together; by default 32, and 1 to measure latency."),
    ] = None,
    provider: Provider = "CPUExecutionProvider",
    threads: Threads = 0,
    dim: Dims = None,
    profile_in: ProfileIn = None,
    profile_out: ProfileOut = None,
    round_to: Annotated[
        str, typer.Option(metavar="N", help="Keep multiples of N channels; 'auto': of what kernels like.")
    ] = "auto",
    min_channels: Annotated[
        int, typer.Option(min=1, help="Keep at least this many channels of each group.")
    ] = 1,
    keep: Annotated[
        list[str] | None, typer.Option(help="Nodes or weights (with * and ?) to leave alone.")
    ] = None,
    granularity: Attention = "auto",
    allow_approximate: Approximate = False,
    allow_state: Annotated[
        bool,
        typer.Option(
            "--allow-state",
            help="States of recurrent layers may become narrower as inputs and outputs: the caller follows.",
        ),
    ] = False,
    memory: Annotated[
        float, typer.Option(min=0, help="GB of activations to hold before they go to a temporary folder.")
    ] = 2.0,
    evals: Annotated[
        int, typer.Option(min=0, help="Runs of held-back samples to spend on choosing what goes where.")
    ] = 200,
    plan_out: Annotated[Path | None, typer.Option(help="Write the plan, to replay with 'apply'.")] = None,
    report_out: Annotated[
        Path | None, typer.Option("--report", help="Write all that is known as JSON.")
    ] = None,
    simplify: Annotated[bool, typer.Option(help="Clean the graph first.")] = True,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Write even if it is not faster or drifts far.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
) -> None:
    """Remove whole channels until a budget is met.

    A budget is a share of what the model has (0.5, 50%) or an amount (8MB, 5ms); several may be combined.
    """
    numbers = [None] if pareto is None else list(range(1, pareto + 1))
    outputs = [
        *(_numbered(out, n) for n in numbers),
        *(None if plan_out is None else _numbered(plan_out, n) for n in numbers),
        None if pareto is None else _picture(out),
        report_out,
        profile_out,
    ]
    pipeline.check_outputs(outputs, models=[model], calib=calib, files=[labels, stats, profile_in])
    options = pipeline.Options(
        ratio=ratio,
        macs=macs,
        params=params,
        size=size,
        latency=latency,
        memory_peak=memory_peak,
        max_drop=max_drop,
        metric=metric,
        select=select,
        inbound=inbound,
        sparsity=sparsity,
        pareto=pareto,
        criterion=criterion,
        repair=repair,
        round_to=_round_to(round_to),
        min_channels=min_channels,
        keep=tuple(keep or ()),
        granularity=granularity,
        allow_approximate=allow_approximate,
        allow_state=allow_state,
        simplify=simplify,
        seed=seed,
        batch=batch or 32,
        memory=memory * 1e9,
        evaluations=evals,
        steps=steps,
        schedule=schedule,
        force=force,
        inbound_groups=inbound_groups,
        masked=masked,
        sparsity_among=sparsity_among,
    )
    evidence: dict[str, Any] = {
        "calib": calib,
        "labels": labels,
        "stats": stats,
        "timing": timed(provider, threads, batch, dim, profile_in, profile_out),
    }
    output = Output(quiet)
    if pareto is not None:
        with output.progress() as progress:
            found = pipeline.pareto(model, pareto, options, **evidence, progress=progress)
        deliver_curve(found, out, plan_out, report_out, output)
    else:
        with output.progress() as progress:
            result = pipeline.prune(model, options, **evidence, progress=progress)
        deliver(result, out, plan_out, report_out, output)


def _round_to(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"'{text}' is neither a number above zero nor 'auto'", where="--round-to")
    return int(text)


def _numbered(path: Path, number: str | int | None) -> Path:
    """`small.onnx` -> `small-2.onnx`."""
    return path if number is None else path.with_name(f"{path.stem}-{number}{path.suffix}")


def _picture(out: Path) -> Path:
    """Where the plot of a curve goes."""
    return out.with_name(f"{out.stem}-pareto.svg")


def deliver(
    result: pipeline.Result, out: Path, plan_out: Path | None, report_out: Path | None, output: Output
) -> None:
    """Write what was asked for, all of it or nothing, and show it."""
    data = {**_data(result), "seconds": output.seconds}
    with Delivery() as delivery:
        if plan_out is not None:
            delivery.write(plan_out, plans.dumps(result.plan).encode())
        if report_out is not None:
            delivery.write(report_out, f"{as_json(data)}\n".encode())
        result.save(out, delivery)
    output.show(plan_tables(result.plan), verdict_table(result.verdict), weights_line(data["weights"]))
    for omission in result.verdict.omitted:
        output.show(f"note: {omission}")
    for warning in result.verdict.warnings:
        output.show(f"note: {warning}")
    output.show(seconds_line(output.seconds), f"The pruned model is in {out}")


def deliver_curve(
    found: pipeline.Pareto, out: Path, plan_out: Path | None, report_out: Path | None, output: Output
) -> None:
    """Write all models, a plot beside them, and what else was asked for; show what is on offer."""
    choices = [replace(choice, name=_numbered(out, choice.name).name) for choice in found.choices]
    with Delivery() as delivery:
        if report_out is not None:
            data = [
                {"model": c.name, "cost": c.cost, "quality": c.quality, "dominated": c.dominated}
                | _data(c.candidate)
                for c in choices
            ]
            named = {"version": VERSION, "cost": found.cost, "quality": found.quality, "models": data}
            delivery.write(report_out, f"{as_json(named)}\n".encode())
        for number, choice in enumerate(choices, 1):
            if plan_out is not None:
                delivery.write(_numbered(plan_out, number), plans.dumps(choice.candidate.plan).encode())
            choice.candidate.save(out.with_name(choice.name), delivery)
    output.show(pareto_table(choices, cost=found.cost, quality=found.quality))
    picture = _picture(out)
    try:
        plot(choices, picture, cost=found.cost, quality=found.quality)
    except UsageError as error:
        output.show(f"note: {error}")
    else:
        output.show(f"The curve is in {picture}")
    output.show(f"The pruned models are in {', '.join(str(out.with_name(c.name)) for c in choices)}")


def _data(result: pipeline.Result) -> dict[str, Any]:
    phases = [Reduced(one.search.spaces, one.choice) for one in result.solved]
    return report(result.plan, result.verdict, phases, result.graph)
