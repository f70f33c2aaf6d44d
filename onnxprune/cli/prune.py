"""`onnxprune prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import pipeline
from .. import plan as plans
from ..channels import Granularity
from ..repair import Mode
from ..report import plan_table, report, verdict_table
from .output import Output, as_json, check_target, write_text
from .sampling import (
    BatchSize,
    Calib,
    Count,
    ImageSize,
    Labels,
    Layout,
    Mean,
    Preset,
    Scale,
    Std,
    calibration,
)


def prune(
    model: Annotated[Path, typer.Argument(help="ONNX file.")],
    out: Annotated[Path, typer.Option("--output", "-o", help="Where the pruned model goes.")],
    ratio: Annotated[
        float | None, typer.Option(help="Share of the channels of every group to remove.")
    ] = None,
    macs: Annotated[float | None, typer.Option(help="Share of the multiply-accumulates to keep.")] = None,
    params: Annotated[float | None, typer.Option(help="Share of the parameters to keep.")] = None,
    criterion: Annotated[
        str | None,
        typer.Option(help="What a channel is worth; 'obs' with samples, 'l1' without. See docs/criteria.md."),
    ] = None,
    repair: Annotated[
        Mode, typer.Option(help="How the weights that are left make up for what is gone.")
    ] = "auto",
    calib: Calib = None,
    labels: Labels = None,
    stats: Annotated[Path | None, typer.Option(help="Statistics that 'calibrate' wrote.")] = None,
    count: Count = None,
    batch: BatchSize = 32,
    preset: Preset = None,
    image_size: ImageSize = None,
    mean: Mean = None,
    std: Std = None,
    layout: Layout = None,
    scale: Scale = None,
    round_to: Annotated[int, typer.Option(min=1, help="Keep a multiple of this many channels.")] = 1,
    min_channels: Annotated[
        int, typer.Option(min=1, help="Keep at least this many channels of each group.")
    ] = 1,
    keep: Annotated[
        list[str] | None, typer.Option(help="Nodes or weights (with * and ?) to leave alone.")
    ] = None,
    granularity: Annotated[
        Granularity, typer.Option(help="What may go of attention: auto, head or width.")
    ] = "auto",
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
    """Remove whole channels until a budget is met."""
    check_target(model, out, plan_out, report_out)
    samples = calibration(calib, count, preset, image_size, mean, std, layout, scale)
    output = Output(quiet)
    with output.progress() as progress:
        result = pipeline.prune(
            model,
            ratio=ratio,
            macs=macs,
            params=params,
            calib=samples,
            labels=labels,
            stats=stats,
            criterion=criterion,
            repair=repair,
            round_to=round_to,
            min_channels=min_channels,
            keep=keep or (),
            granularity=granularity,
            simplify=simplify,
            seed=seed,
            batch=batch,
            memory=memory * 1e9,
            evaluations=evals,
            force=force,
            progress=progress,
        )
    deliver(result, out, plan_out, report_out, output)


def deliver(
    result: pipeline.Result, out: Path, plan_out: Path | None, report_out: Path | None, output: Output
) -> None:
    """Write what was asked for, and show it."""
    result.save(out)
    if plan_out is not None:
        write_text(plan_out, plans.dumps(result.plan))
    if report_out is not None:
        ready = result.prepared
        write_text(
            report_out,
            as_json(report(result.plan, result.verdict, ready.graph, ready.analysis, result.kept)) + "\n",
        )
    output.show(plan_table(result.plan), verdict_table(result.verdict))
    for warning in result.verdict.warnings:
        output.show(f"note: {warning}")
    output.show(f"The pruned model is in {out}")
