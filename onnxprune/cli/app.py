"""The command line: options in, text out, exit codes; no logic of its own."""

from __future__ import annotations

import os
from typing import Annotated

import typer
from rich.console import Console

from .. import __version__
from ..errors import OnnxpruneError, harmless, shortened
from . import apply, bench, calibrate, check, diff, inspect, profile, prune, validate

_BUG = 70
"""What `sysexits.h` calls an internal software error: never taken for a verdict on a model."""

_INTERRUPTED = 130
"""What shells make of a signal: 128 and its number."""

_ROOM = "take fewer samples at once (--batch) or in all (--samples), or a machine with more memory"

_STAGES = {
    "calibration": "measuring statistics",
    "check": "measuring the model",
    "criteria": "scoring channels",
    "execution": "running the model",
    "graph": "reading or changing the model",
    "profile": "timing layers",
    "proof": "proving the surgery",
    "quality": "comparing models",
    "reductions": "cutting the model",
    "repair": "repairing weights",
    "rewrites": "cleaning the graph",
    "runtime": "running the model",
    "samples": "reading samples",
}
"""Room of the package -> what goes on there."""

app = typer.Typer(
    name="onnxprune",
    help="Make an ONNX model smaller and faster: remove whole channels, repair the rest, prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (
    inspect.inspect,
    prune.prune,
    calibrate.calibrate,
    apply.apply,
    validate.validate,
    bench.bench,
    profile.profile,
    check.check,
    diff.diff,
):
    app.command()(command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"onnxprune {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Options of no command."""


def run(arguments: list[str]) -> int:
    """Run a command.

    Returns:
        The exit code: 0 done, 1 a check failed, 2 bad usage or input, 3 can't be pruned as asked, 70 a bug of
        onnxprune, 130 interrupted.
    """
    stderr = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        code = int(app(arguments, prog_name="onnxprune", standalone_mode=False) or 0)
        text = "interrupted" if code == _INTERRUPTED else ""
    except OnnxpruneError as error:
        code, text = error.exit_code, str(error)
    except typer.TyperException as error:
        code, text = 2, _wrong_usage(error)
    except (KeyboardInterrupt, typer.Abort):
        code, text = _INTERRUPTED, "interrupted"
    except MemoryError as error:
        code, text = 3, f"out of memory while {_stage(error)}; {_ROOM}"
    except Exception as error:
        if os.environ.get("ONNXPRUNE_DEBUG"):
            raise
        kind = harmless(shortened(" ".join(f"{type(error).__name__}: {error}".split())))
        code = _BUG
        text = f"a bug in onnxprune ({kind}); please report it with the traceback of ONNXPRUNE_DEBUG=1"
    return _said(stderr, code, text)


def _said(stderr: Console, code: int, text: str) -> int:
    if text:
        stderr.print(f"onnxprune: {harmless(text)}", markup=False)
    return code


def _stage(error: BaseException) -> str:
    """What was going on where an error comes from: the innermost room of the package that says so."""
    found, trace = "working", error.__traceback__
    while trace is not None:
        room = (trace.tb_frame.f_globals.get("__name__", "") + "..").split(".")[1]
        found = _STAGES.get(room, found)
        trace = trace.tb_next
    return found


def _wrong_usage(error: typer.TyperException) -> str:
    """What is wrong with the options, and which help says what is right; nothing after the help itself."""
    text = " ".join(error.format_message().split()).rstrip(".")
    context = getattr(error, "ctx", None)
    return f"{text}; see '{context.command_path} --help'" if text and context else text
