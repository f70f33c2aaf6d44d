"""What `prune` and `apply` write and show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import pipeline
from .. import plan as plans
from ..errors import UsageError
from ..graph import Delivery
from ..report import VERSION, Reduced, plan_tables, report, seconds_line, verdict_table, weights_line
from ..report.pareto import pareto_table, plot
from .output import Output, as_json


def numbered(path: Path, number: str | int | None) -> Path:
    """`small.onnx` -> `small-2.onnx`."""
    return path if number is None else path.with_name(f"{path.stem}-{number}{path.suffix}")


def picture(out: Path) -> Path:
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
    choices = [replace(choice, name=numbered(out, choice.name).name) for choice in found.choices]
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
                delivery.write(numbered(plan_out, number), plans.dumps(choice.candidate.plan).encode())
            choice.candidate.save(out.with_name(choice.name), delivery)
    output.show(pareto_table(choices, cost=found.cost, quality=found.quality))
    drawn = picture(out)
    try:
        plot(choices, drawn, cost=found.cost, quality=found.quality)
    except UsageError as error:
        output.show(f"note: {error}")
    else:
        output.show(f"The curve is in {drawn}")
    output.show(f"The pruned models are in {', '.join(str(out.with_name(c.name)) for c in choices)}")


def _data(result: pipeline.Result) -> dict[str, Any]:
    phases = [Reduced(one.search.spaces, one.choice) for one in result.solved]
    return report(result.plan, result.verdict, phases, result.graph)
